"""The rows of a set in the order in which a sample takes them, however large the set."""

from collections.abc import Iterator
from typing import NamedTuple

from .examples import Example, TrainingSet, refuse_bad_rows, usable_examples
from .seeds import seed_for

HELD = 10_000
"""Rows held at a time, or as many as `subset` where that is more."""


class Draws(NamedTuple):
    """What a set has to draw from."""

    usable: int
    skipped: int
    """Bad rows left out under `on_bad_row: skip`."""
    examples: Iterator[tuple[int, Example]]
    """Each usable row with its place among them: by its draw, the one of a training's `subset`; without one, as they stand."""


def draw_examples(settings: TrainingSet) -> Draws:
    """Reads the set once to validate it, and again for every 10,000 rows that are drawn.

    Raises DataError as `load_examples` does.
    """
    bad: list[str] = []
    draws = [seed_for(settings.subset_seed, "subset", example.id) for example in usable_examples(settings, bad)]
    refuse_bad_rows(settings, bad, len(draws))
    return Draws(len(draws), len(bad), _in_order(settings, draws))


def _in_order(settings: TrainingSet, draws: list[int]) -> Iterator[tuple[int, Example]]:
    if settings.subset is None:
        yield from enumerate(usable_examples(settings, []))
        return
    order = sorted(range(len(draws)), key=lambda place: (draws[place], place))
    size = max(settings.subset, HELD)
    for chunk in (order[start : start + size] for start in range(0, len(order), size)):
        wanted = set(chunk)
        held = {place: example for place, example in enumerate(usable_examples(settings, [])) if place in wanted}
        yield from ((place, held[place]) for place in chunk)
