"""Epistemic markers, counted.  Figs. 2 and 5.

They are words by which a model says that it is unsure, looks again, or tries another way.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

MARKERS = (
    "wait",
    "hmm",
    "perhaps",
    "maybe",
    "actually",
    "alternatively",
    "seems",
    "might",
    "likely",
    "check",
)
"""Kim et al., arXiv:2603.24472, as their code counts them."""


def count_substrings(texts: Iterable[str], markers: Sequence[str] = MARKERS) -> Counter[str]:
    """Counts each marker anywhere in the lower-cased texts, inside words too (`checking`).

    This is Kim et al.'s way, and the paper's.
    """
    counts = Counter(dict.fromkeys(markers, 0))
    for text in texts:
        lower = text.lower()
        counts.update({marker: lower.count(marker.lower()) for marker in markers})
    return counts


def count_words(texts: Iterable[str], markers: Sequence[str] = MARKERS) -> Counter[str]:
    """Counts each marker as a word, or words, of its own; one inside another counts for both."""
    counts = Counter(dict.fromkeys(markers, 0))
    patterns = {marker: re.compile(_whole(marker.lower())) for marker in markers}
    for text in texts:
        lower = text.lower()
        counts.update({marker: len(pattern.findall(lower)) for marker, pattern in patterns.items()})
    return counts


def marker_counts(
    texts: Sequence[str], tokens: int, own: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Both ways of counting, for a record: totals, rates by completion and by 1,000 tokens, and the
    count of every marker.  Figs. 2 and 5; Kim et al., arXiv:2603.24472.

    `tokens` are those of all texts together.  The totals are of Kim et al.'s list alone, so that
    they can be compared; the run's `own` markers are counted beside it.
    """
    ways = {"substring": count_substrings, "word": count_words}
    return {
        name: _rates(count(texts, [*MARKERS, *own]), len(texts), tokens)
        for name, count in ways.items()
    }


def _whole(marker: str) -> str:
    """A pattern of the marker with no letter or digit running on at either end."""
    before, after = (r"\b" if re.match(r"\w", end) else "" for end in (marker[0], marker[-1]))
    return before + re.escape(marker) + after


def _rates(counts: Counter[str], responses: int, tokens: int) -> dict[str, Any]:
    total = sum(counts[marker] for marker in MARKERS)
    return {
        "total": total,
        "per_response": total / max(responses, 1),
        "per_1000_tokens": 1000 * total / max(tokens, 1),
        "by_marker": dict(counts),
    }
