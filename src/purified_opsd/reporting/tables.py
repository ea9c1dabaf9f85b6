"""The tables of a report: what ran, how the runs differ, and the paper's Table 1.

What a reader wants to know first: of each run, what became of accuracy, markers, length and the
teacher's pull.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from math import sqrt
from pathlib import PurePath
from statistics import fmean, median, stdev
from typing import Any

from purified_opsd.settings import flat

from .completions import EVALUATION
from .curves import benchmarks_of, mean_accuracies, mean_of
from .elements import Table
from .marker_counts import MarkerCounts
from .marker_figures import Tallies
from .runs import Estimate, RunRecord, Score

NONE = "–"


def facts(runs: Sequence[RunRecord]) -> Table:
    """A column a run."""
    each = [_facts_of(run) for run in runs]
    rows = [[name, *(found[name] for found in each)] for name in each[0]]
    return Table("", "", ["", *(run.name for run in runs)], rows)


def differences(runs: Sequence[RunRecord]) -> Table:
    """The settings that are not the same in every run, where they go left out."""
    settings = [dict(flat(run.settings)) for run in runs]
    names = [
        name
        for name in dict.fromkeys(name for found in settings for name in found)
        if name != "output_dir"
    ]
    differing = [
        name
        for name in names
        if any(_setting(found, name) != _setting(settings[0], name) for found in settings)
    ]
    rows = [[name, *(_setting(found, name) for found in settings)] for name in differing]
    return Table(
        "Differences",
        "Every setting that is not the same in all runs.",
        ["", *(run.name for run in runs)],
        rows,
    )


def table_1(runs: Sequence[RunRecord]) -> Table:
    """Base, then every run's checkpoints, on every benchmark."""
    benchmarks = benchmarks_of(runs)
    bases = {
        run.name: _row(run, 0, benchmarks)
        for run in runs
        if any(0 in scores for scores in run.scores.values())
    }
    same = len({tuple(row) for row in bases.values()}) == 1
    rows = (
        [["base", *next(iter(bases.values()))]]
        if same
        else [[f"base of {name}", *row] for name, row in bases.items()]
    )
    for run in runs:
        steps = sorted({step for scores in run.scores.values() for step in scores if step})
        rows += [[f"{run.name}, step {step}", *_row(run, step, benchmarks)] for step in steps]
    header = ["", *benchmarks, *(["mean"] if len(benchmarks) > 1 else [])]
    caption = (
        "Accuracy in percent ± one standard error. ▲ and ▼: above and below the run's base by more "
        "than 1.96 standard errors of the difference, paired by question. The paper's table has "
        "each run's best checkpoint: choosing the highest of many makes it too high, so all are "
        "here."
    )
    return Table("In the shape of Table 1", caption, header, rows)


def details(runs: Sequence[RunRecord]) -> Table:
    """What else an evaluation told of each candidate."""
    header = [
        "",
        "benchmark",
        "samples",
        "tokens",
        "cut off, %",
        "no answer, %",
        "markers",
        "per 1,000 tokens",
    ]
    rows = [
        [f"{run.name}, {f'step {step}' if step else 'base'}", benchmark,
         f"{score['samples']}{' PARTIAL' if score['partial'] else ''}",
         f"{score['mean_tokens']:.0f}", f"{100 * score['truncation_rate']:.1f}", f"{100 * score['no_box_rate']:.1f}",
         f"{score['markers']:.2f}", f"{score['markers_per_1000_tokens']:.1f}"]
        for run in runs
        for benchmark, scores in run.scores.items()
        for step, score in scores.items()
    ]  # fmt: skip
    return Table("Every candidate", "Markers are per completion.", header, rows)


def target_of(run: RunRecord) -> str:
    """`pmi, beta 1.0, clip 10.0`."""
    kind, *values = [
        (name, value) for name, value in run.settings["target"].items() if value is not None
    ]
    return ", ".join([str(kind[1]), *(f"{name} {value}" for name, value in values)])


def difference(before: Score, after: Score) -> Estimate | None:
    """After minus before, by question; None where fewer than two questions were asked of both."""
    ids = [id for id in after["by_problem"] if id in before["by_problem"]]
    found = [after["by_problem"][id] - before["by_problem"][id] for id in ids]
    return Estimate(fmean(found), stdev(found) / sqrt(len(found))) if len(found) > 1 else None


def _row(run: RunRecord, step: int, benchmarks: Sequence[str]) -> list[str]:
    cells = [_accuracy(run, benchmark, step) for benchmark in benchmarks]
    mean = mean_accuracies(run, benchmarks).get(step)
    return [*cells, *([mean.text(100) if mean else NONE] if len(benchmarks) > 1 else [])]


def _accuracy(run: RunRecord, benchmark: str, step: int) -> str:
    scores, estimate = run.scores.get(benchmark, {}), run.accuracies(benchmark).get(step)
    if estimate is None:
        return NONE
    change = difference(scores[0], scores[step]) if step and 0 in scores else None
    return f"{_sign(change)}{estimate.text(100)}{' PARTIAL' if scores[step]['partial'] else ''}"


def _sign(change: Estimate | None) -> str:
    """▲ or ▼ where it is further from 0 than chance would take it, 19 times in 20."""
    if change is None or change.error is None or abs(change.mean) <= 1.96 * change.error:
        return ""
    return "▲ " if change.mean > 0 else "▼ "


def _facts_of(run: RunRecord) -> dict[str, str]:
    settings, start = run.settings, run.starts[-1] if run.starts else {}
    seconds = [sum(row.get("seconds", {}).values()) for row in run.metrics]
    return {
        "arm": run.arm,
        "target": target_of(run),
        "model": "/".join(PurePath(str(settings["model"].get("path"))).parts[-2:]),
        "training set": f"{PurePath(str(settings['data'].get('path'))).name}, "
        f"{run.data.get('rows', '?')} rows",
        "steps taken": f"{run.metrics[-1]['step'] if run.metrics else 0} of "
        f"{settings.get('steps', '?')}",
        "questions a step": str(settings.get("batch_size", "?")),
        "checkpoints": ", ".join(map(str, run.checkpoints)) or "none",
        "seed": str(settings.get("seed", "?")),
        "time": f"{sum(seconds) / 60:.1f} min, {median(seconds):.2f} s a step" if seconds else NONE,
        "device": str(start.get("device", "?")),
        "processes": str(start.get("processes", "?")),
        "starts": f"{len(run.starts)}, the last {start.get('started', '?')}",
        "versions": ", ".join(
            f"{name} {version}" for name, version in start.get("packages", {}).items() if version
        ),
        "folder": str(run.folder),
    }


def _setting(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return NONE
    value = settings[name]
    return "null" if value is None else str(value)


pass


@dataclass(frozen=True)
class Change:
    """A number of the base and of the last checkpoint that has it; both are None where it was not
    measured.
    """

    name: str
    before: str | None
    after: str | None
    note: str


def changes(run: RunRecord, found: Mapping[str, Tallies]) -> list[Change]:
    """The rows of a run's card; `found` are the marker counts by source."""
    source = next((source for source, tallies in found.items() if tallies[run.name]), EVALUATION)
    return [
        _accuracy_change(run),
        _markers(source, found[source][run.name]),
        _length(found[source][run.name]),
        _pull(run, "ref", "along what the reference alone says"),
        _pull(run, "it", "along what the question adds"),
    ]


def _accuracy_change(run: RunRecord) -> Change:
    benchmarks = benchmarks_of([run])
    estimates = mean_accuracies(run, benchmarks)
    what = benchmarks[0] if len(benchmarks) == 1 else f"mean of {len(benchmarks)} benchmarks"
    last = max(estimates, default=0)
    found = (
        [difference(scores[0], scores[last]) for scores in run.scores.values()]
        if last and 0 in estimates
        else []
    )
    known = [change for change in found if change]
    partial = {
        step for scores in run.scores.values() for step, score in scores.items() if score["partial"]
    }
    change = mean_of(known).times(100) if known and len(known) == len(found) else None
    note = (
        f"{'+' if change.mean > 0 else ''}{change.text()} points, paired by question"
        if change
        else ""
    )
    return _change(
        f"Accuracy, % ({what})" if benchmarks else "Accuracy", estimates, 100, 1, note, partial
    )


def _markers(source: str, tallies: Mapping[int, MarkerCounts]) -> Change:
    estimates = {step: tally.per_completion() for step, tally in tallies.items()}
    times = tallies[max(tallies)].times(tallies[0]) if 0 in tallies else None
    note = (
        source if times is None else f"× {times:.2f} on the questions that both answered, {source}"
    )
    return _change("Epistemic markers per completion", estimates, 1, 2, note, _partial(tallies))


def _length(tallies: Mapping[int, MarkerCounts]) -> Change:
    estimates = {
        step: Estimate(tally.tokens / tally.completions, None) for step, tally in tallies.items()
    }
    return _change("Tokens per completion", estimates, 1, 0, "", _partial(tallies))


def _partial(tallies: Mapping[int, MarkerCounts]) -> set[int]:
    return {step for step, tally in tallies.items() if tally.partial}


def _pull(run: RunRecord, part: str, note: str) -> Change:
    estimates = {
        step: found[f"cos_{part}"]
        for step, found in run.diagnoses.items()
        if f"cos_{part}" in found
    }
    return _change(f"Teacher's pull, cos(Δ_total, Δ_{part})", estimates, 1, 2, note, set())


def _change(
    name: str,
    estimates: Mapping[int, Estimate],
    scale: float,
    digits: int,
    note: str,
    partial: Set[int],
) -> Change:
    last = max(estimates, default=0)
    texts = {
        step: f"{estimates[step].text(scale, digits)}{' PARTIAL' if step in partial else ''}"
        for step in (0, last)
        if step in estimates
    }
    return Change(name, texts.get(0), texts[last] if last else None, note if last else "")
