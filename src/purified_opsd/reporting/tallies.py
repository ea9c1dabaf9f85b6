"""Epistemic markers in a candidate's completions.  Figs. 2 and 5."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from .completions import written
from .outcomes import Estimate

Count = Callable[[Iterable[str]], Counter[str]]


@dataclass(frozen=True)
class Markers:
    """Which words are markers, and the two ways to count them."""

    words: Sequence[str]
    by_substring: Count
    """Kim et al.'s, and the paper's."""
    by_word: Count


@dataclass
class Tally:
    """The markers of one candidate, from one source."""

    completions: int = 0
    tokens: int = 0
    substrings: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    by_question: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    """The substrings of each completion."""

    def per_completion(self) -> Estimate:
        """Mean over questions; runs of one question are no independent evidence about others."""
        means = [fmean(counts) for counts in self.by_question.values()]
        return Estimate(fmean(means), stdev(means) / sqrt(len(means)) if len(means) > 1 else None)

    def per_1000_tokens(self) -> float:
        return 1000 * self.substrings.total() / max(self.tokens, 1)


def tallies(run: Path, source: str, markers: Markers) -> dict[int, Tally]:
    """By step, base first; empty where the source has no completions."""
    found: dict[int, Tally] = defaultdict(Tally)
    for completion in written(run, source):
        tally, counts = found[completion.step], markers.by_substring([completion.text])
        tally.completions += 1
        tally.tokens += completion.tokens
        tally.substrings += counts
        tally.words += markers.by_word([completion.text])
        tally.by_question[completion.benchmark, completion.id].append(counts.total())
    return dict(sorted(found.items()))
