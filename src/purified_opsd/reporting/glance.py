"""What a reader wants to know first: of each run, what became of accuracy, markers, length and the teacher's pull."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from .completions import EVALUATION
from .curves import benchmarks_of, mean_accuracies, mean_of
from .marker_curves import Tallies
from .outcomes import Estimate
from .runs import RunRecord
from .tables import difference
from .tallies import Tally


@dataclass(frozen=True)
class Change:
    """A number of the base and of the last checkpoint that has it; both are None where it was not measured."""

    name: str
    before: str | None
    after: str | None
    note: str


def changes(run: RunRecord, found: Mapping[str, Tallies]) -> list[Change]:
    """The rows of a run's card; `found` are the marker counts by source."""
    source = next((source for source, tallies in found.items() if tallies[run.name]), EVALUATION)
    return [
        _accuracy(run),
        _markers(source, found[source][run.name]),
        _length(found[source][run.name]),
        _pull(run, "ref", "along what the reference alone says"),
        _pull(run, "it", "along what the question adds"),
    ]


def _accuracy(run: RunRecord) -> Change:
    benchmarks = benchmarks_of([run])
    estimates = mean_accuracies(run, benchmarks)
    what = benchmarks[0] if len(benchmarks) == 1 else f"mean of {len(benchmarks)} benchmarks"
    last = max(estimates, default=0)
    found = [difference(scores[0], scores[last]) for scores in run.scores.values()] if last and 0 in estimates else []
    known = [change for change in found if change]
    partial = {step for scores in run.scores.values() for step, score in scores.items() if score["partial"]}
    change = mean_of(known).times(100) if known and len(known) == len(found) else None
    note = f"{'+' if change.mean > 0 else ''}{change.text()} points, paired by question" if change else ""
    return _change(f"Accuracy, % ({what})" if benchmarks else "Accuracy", estimates, 100, 1, note, partial)


def _markers(source: str, tallies: Mapping[int, Tally]) -> Change:
    estimates = {step: tally.per_completion() for step, tally in tallies.items()}
    times = tallies[max(tallies)].times(tallies[0]) if 0 in tallies else None
    note = source if times is None else f"× {times:.2f} on the questions that both answered, {source}"
    return _change("Epistemic markers per completion", estimates, 1, 2, note, _partial(tallies))


def _length(tallies: Mapping[int, Tally]) -> Change:
    estimates = {step: Estimate(tally.tokens / tally.completions, None) for step, tally in tallies.items()}
    return _change("Tokens per completion", estimates, 1, 0, "", _partial(tallies))


def _partial(tallies: Mapping[int, Tally]) -> set[int]:
    return {step for step, tally in tallies.items() if tally.partial}


def _pull(run: RunRecord, part: str, note: str) -> Change:
    estimates = {step: found[f"cos_{part}"] for step, found in run.diagnoses.items() if f"cos_{part}" in found}
    return _change(f"Teacher's pull, cos(Δ_total, Δ_{part})", estimates, 1, 2, note, set())


def _change(name: str, estimates: Mapping[int, Estimate], scale: float, digits: int, note: str, partial: Set[int]) -> Change:
    last = max(estimates, default=0)
    texts = {
        step: f"{estimates[step].text(scale, digits)}{' PARTIAL' if step in partial else ''}"
        for step in (0, last)
        if step in estimates
    }
    return Change(name, texts.get(0), texts[last] if last else None, note if last else "")
