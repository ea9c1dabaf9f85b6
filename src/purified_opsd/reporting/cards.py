"""What a reader wants to know first of a run: accuracy, markers, length and the teacher's pull, of
the base and of the last checkpoint.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from purified_opsd.training.collapse import seen_signs

from .curves import benchmarks_of, mean_accuracies
from .marker_counts import MarkerTally
from .marker_figures import TalliesByRun
from .run_completions import EVALUATION
from .runs import Estimate, RunRecord


@dataclass(frozen=True)
class BeforeAfter:
    """A number of the base and of the last checkpoint that has it.

    Both are None where the number was not measured.
    """

    name: str
    before: str | None
    after: str | None
    note: str


@dataclass(frozen=True)
class Card:
    """A run at a glance."""

    run: RunRecord
    colour: str
    target: str
    rows: Sequence[BeforeAfter]

    @property
    def collapse(self) -> list[str]:
        """The signs of collapse that the run has recorded."""
        return [sign.text() for sign in seen_signs(self.run.metrics)]


@dataclass(frozen=True)
class _Unit:
    """How a number is written: scaled, with so many digits."""

    scale: float
    digits: int


def before_after(run: RunRecord, tallies: Mapping[str, TalliesByRun]) -> list[BeforeAfter]:
    """The rows of a run's card; `tallies` are the marker counts by source."""
    source = next((name for name, by_run in tallies.items() if by_run[run.name]), EVALUATION)
    by_step = tallies[source][run.name]
    return [
        _accuracy(run),
        _markers(source, by_step),
        _length(by_step),
        _pull(run, "ref", "along what the reference alone says"),
        _pull(run, "it", "along what the question adds"),
    ]


def _accuracy(run: RunRecord) -> BeforeAfter:
    benchmarks = benchmarks_of([run])
    estimates = mean_accuracies(run, benchmarks)
    partial = {
        step for scores in run.scores.values() for step, score in scores.items() if score["partial"]
    }
    name = "Accuracy"
    if benchmarks:
        several = f"mean of {len(benchmarks)} benchmarks"
        name = f"Accuracy, % ({benchmarks[0] if len(benchmarks) == 1 else several})"
    note = _accuracy_note(run, max(estimates, default=0), benchmarks)
    return _row(name, estimates, _Unit(100, 1), note, partial)


def _accuracy_note(run: RunRecord, last: int, benchmarks: Sequence[str]) -> str:
    difference = run.difference_to_base(last, benchmarks)
    if difference is None:
        return ""
    plus = "+" if difference.mean > 0 else ""
    chance = "" if difference.significant else ", within chance"
    return f"{plus}{difference.text(100)} points, paired by question{chance}"


def _markers(source: str, tallies: Mapping[int, MarkerTally]) -> BeforeAfter:
    estimates = {step: tally.per_completion() for step, tally in tallies.items()}
    ratio = tallies[max(tallies)].ratio_to(tallies[0]) if 0 in tallies else None
    note = source
    if ratio is not None:
        note = f"× {ratio:.2f} on the questions that both answered, {source}"
    name = "Epistemic markers per completion"
    return _row(name, estimates, _Unit(1, 2), note, _partial(tallies))


def _length(tallies: Mapping[int, MarkerTally]) -> BeforeAfter:
    estimates = {
        step: Estimate(tally.tokens / tally.completions, None) for step, tally in tallies.items()
    }
    return _row("Tokens per completion", estimates, _Unit(1, 0), "", _partial(tallies))


def _partial(tallies: Mapping[int, MarkerTally]) -> set[int]:
    return {step for step, tally in tallies.items() if tally.partial}


def _pull(run: RunRecord, part: str, note: str) -> BeforeAfter:
    number = f"cos_{part}"
    estimates = {
        step: numbers[number] for step, numbers in run.diagnoses.items() if number in numbers
    }
    name = f"Teacher's pull, cos(Δ_total, Δ_{part})"
    return _row(name, estimates, _Unit(1, 2), note, set())


def _row(
    name: str, estimates: Mapping[int, Estimate], unit: _Unit, note: str, partial: Set[int]
) -> BeforeAfter:
    last = max(estimates, default=0)
    texts = {}
    for step in {0, last} & estimates.keys():
        mark = " PARTIAL" if step in partial else ""
        texts[step] = f"{estimates[step].text(unit.scale, unit.digits)}{mark}"
    return BeforeAfter(name, texts.get(0), texts[last] if last else None, note if last else "")
