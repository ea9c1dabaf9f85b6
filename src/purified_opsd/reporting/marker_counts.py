"""Epistemic markers in a candidate's completions.  Figs. 2 and 5."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from .run_completions import EVALUATION, asked, written
from .runs import Estimate

Count = Callable[[Iterable[str], Sequence[str]], Counter[str]]
"""Of these words, in these texts."""


@dataclass(frozen=True)
class Markers:
    """Which words are markers, and the two ways to count them."""

    words: Sequence[str]
    by_substring: Count
    """Kim et al.'s, and the paper's."""
    by_word: Count
    own: Sequence[str] = ()
    """The runs' own, counted beside them and in no total."""

    @property
    def all(self) -> list[str]:
        return [*self.words, *self.own]


@dataclass
class MarkerCounts:
    """The markers of one candidate, from one source."""

    owed: int
    """Completions that were asked for."""
    completions: int = 0
    tokens: int = 0
    total: int = 0
    """Of the substrings, without the runs' own."""
    substrings: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    by_question: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    """The substrings of each completion."""

    @property
    def partial(self) -> bool:
        return self.completions < self.owed

    def times(self, base: "MarkerCounts") -> float | None:
        """Its markers per completion over the base's, on the questions that both have; None where
        the base has none there.
        """
        shared = [key for key in self.by_question if key in base.by_question]
        before, after = (
            sum(fmean(tally.by_question[key]) for key in shared) for tally in (base, self)
        )
        return after / before if before else None

    def per_completion(self) -> Estimate:
        """Mean over questions; runs of one question are no independent evidence about others."""
        means = [fmean(counts) for counts in self.by_question.values()]
        return Estimate(fmean(means), stdev(means) / sqrt(len(means)) if len(means) > 1 else None)

    def per_1000_tokens(self) -> float:
        return 1000 * self.total / max(self.tokens, 1)


def marker_counts_by_step(run: Path, source: str, markers: Markers) -> dict[int, MarkerCounts]:
    """By step, base first; empty where the source has no completions."""
    owed = asked(run) if source == EVALUATION else {}
    found: dict[int, MarkerCounts] = {}
    for completion in written(run, source):
        tally = found.setdefault(completion.step, MarkerCounts(owed.get(completion.step, 0)))
        counts = markers.by_substring([completion.text], markers.all)
        total = sum(counts[word] for word in markers.words)
        tally.completions += 1
        tally.tokens += completion.tokens
        tally.total += total
        tally.substrings += counts
        tally.words += markers.by_word([completion.text], markers.all)
        tally.by_question[completion.benchmark, completion.id].append(total)
    return dict(sorted(found.items()))
