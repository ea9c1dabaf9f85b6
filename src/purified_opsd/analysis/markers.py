"""Epistemic markers: words by which a model says that it is unsure, looks again, or tries another way.  Figs. 2 and 5."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

MARKERS = ("wait", "hmm", "perhaps", "maybe", "actually", "alternatively", "seems", "might", "likely", "check")
"""Kim et al., arXiv:2603.24472, as their code counts them."""


def count_substrings(texts: Iterable[str], markers: Sequence[str] = MARKERS) -> Counter[str]:
    """Occurrences of each marker anywhere in the lower-cased texts, inside words too (`checking`): Kim et al.'s way."""
    counts = Counter(dict.fromkeys(markers, 0))
    for text in texts:
        lower = text.lower()
        counts.update({marker: lower.count(marker) for marker in markers})
    return counts


def count_words(texts: Iterable[str], markers: Sequence[str] = MARKERS) -> Counter[str]:
    """Occurrences of each marker as a word of its own."""
    counts = Counter(dict.fromkeys(markers, 0))
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(markers, key=len, reverse=True)))})\b")
    for text in texts:
        counts.update(pattern.findall(text.lower()))
    return counts
