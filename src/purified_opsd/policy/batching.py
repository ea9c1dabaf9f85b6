"""Micro-batches by a token budget: sequences of like length together, so that little of what is computed is padding."""

from collections.abc import Sequence

MOST_PADDING = 0.1
"""The share of a micro-batch's tokens that may be padding."""


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Places of the sequences, shortest first, in groups whose padded size (rows x longest) stays within the budget and whose
    padding stays within `MOST_PADDING` of it.

    A sequence longer than the budget gets a group of its own.
    """
    groups: list[list[int]] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        padded = (len(groups[-1]) + 1) * lengths[place] if groups else token_budget + 1
        if padded <= token_budget and tokens + lengths[place] >= (1 - MOST_PADDING) * padded:
            groups[-1].append(place)
            tokens += lengths[place]
        else:
            groups.append([place])
            tokens = lengths[place]
    return groups
