"""Tallies of epistemic markers in the completions of base and checkpoints.  Figs. 2 and 5."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from .run_completions import EVALUATION, read_completions, requested_completions
from .runs import Estimate

Count = Callable[[Iterable[str], Sequence[str]], Counter[str]]
"""Counts these words in these texts."""


@dataclass(frozen=True)
class MarkerWords:
    """Which words are markers, and the two ways to count them."""

    words: Sequence[str]
    by_substring: Count
    """Kim et al.'s way, and the paper's."""
    by_word: Count
    own: Sequence[str] = ()
    """The runs' own markers, counted beside the others and in no total."""

    @property
    def all(self) -> list[str]:
        return [*self.words, *self.own]


@dataclass
class MarkerTally:
    """The markers in the completions of one base or checkpoint, from one source."""

    requested: int
    """Completions that were asked for."""
    completions: int = 0
    tokens: int = 0
    total: int = 0
    """Substrings found, the runs' own markers left out."""
    substrings: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    by_question: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    """The substrings found in each completion, by benchmark and question."""

    @property
    def partial(self) -> bool:
        return self.completions < self.requested

    def ratio_to(self, base: "MarkerTally") -> float | None:
        """Markers per completion over the base's, on the questions that both answered.

        None where the base has no marker there.
        """
        shared = [question for question in self.by_question if question in base.by_question]
        before = sum(fmean(base.by_question[question]) for question in shared)
        after = sum(fmean(self.by_question[question]) for question in shared)
        return after / before if before else None

    def per_completion(self) -> Estimate:
        """The mean over questions: runs of one question are no independent evidence of others."""
        means = [fmean(counts) for counts in self.by_question.values()]
        return Estimate(fmean(means), stdev(means) / sqrt(len(means)) if len(means) > 1 else None)

    def per_1000_tokens(self) -> float:
        return 1000 * self.total / max(self.tokens, 1)


def tally_markers(run: Path, source: str, markers: MarkerWords) -> dict[int, MarkerTally]:
    """The tallies by step, base first; empty where the source has no completions."""
    requested = requested_completions(run) if source == EVALUATION else {}
    tallies: dict[int, MarkerTally] = {}
    for completion in read_completions(run, source):
        step = completion.step
        tally = tallies.setdefault(step, MarkerTally(requested.get(step, 0)))
        counts = markers.by_substring([completion.text], markers.all)
        total = sum(counts[word] for word in markers.words)
        tally.completions += 1
        tally.tokens += completion.tokens
        tally.total += total
        tally.substrings += counts
        tally.words += markers.by_word([completion.text], markers.all)
        tally.by_question[completion.benchmark, completion.id].append(total)
    return dict(sorted(tallies.items()))
