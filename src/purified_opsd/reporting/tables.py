"""The tables of a report: what ran, how the runs differ, and the paper's Table 1."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from statistics import median
from typing import Any

from purified_opsd.settings.build import flat

from .curves import benchmarks_of, mean_accuracies
from .elements import Table
from .runs import Difference, RunRecord

NONE = "–"


def facts(runs: Sequence[RunRecord]) -> Table:
    """What ran: a column a run."""
    columns = [_facts_of(run) for run in runs]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return Table("", "", ["", *(run.name for run in runs)], rows)


def setting_differences(runs: Sequence[RunRecord]) -> Table:
    """The settings that are not the same in every run; where the runs are written is left out."""
    columns = [dict(flat(run.settings)) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column if name != "output_dir")
    rows = []
    for name in names:
        values = [_setting(column, name) for column in columns]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return Table(
        "Differences",
        "Every setting that is not the same in all runs.",
        ["", *(run.name for run in runs)],
        rows,
    )


def changes(runs: Sequence[RunRecord]) -> Table:
    """What was changed at resumes: the settings that stand elsewhere are those of the end."""
    rows = [
        [f"{run.name}, after step {change.step}", name, *(value or NONE for value in values)]
        for run in runs
        for change in run.changes
        for name, values in change.changed.items()
    ]
    return Table(
        "Changed on the way",
        "By `resume --allow-changes`: before and after this step the run was trained otherwise. "
        "Every other setting shown is that of its end.",
        ["", "setting", "before", "after"],
        rows,
    )


def table_1(runs: Sequence[RunRecord]) -> Table:
    """Accuracy of the base, then of every run's checkpoints, on every benchmark."""
    benchmarks = benchmarks_of(runs)
    header = ["", *benchmarks, *(["mean"] if len(benchmarks) > 1 else [])]
    rows = _base_rows(runs, benchmarks)
    for run in runs:
        steps = {step for scores in run.scores.values() for step in scores if step}
        rows += [
            [f"{run.name}, step {step}", *_accuracy_cells(run, step, benchmarks)]
            for step in sorted(steps)
        ]
    caption = (
        "Accuracy in percent ± one standard error. ▲ and ▼: above and below the run's base by more "
        "than chance gives one time in twenty (p < 0.05, sign-flip test paired by question, as "
        "`purified-opsd compare` tests it). The paper's table has each run's best checkpoint: "
        "choosing the highest of many makes it too high, so all are here."
    )
    return Table("In the shape of Table 1", caption, header, rows)


def _base_rows(runs: Sequence[RunRecord], benchmarks: Sequence[str]) -> list[list[str]]:
    """One row where all runs have the same base, else one a run."""
    evaluated = [run for run in runs if any(0 in scores for scores in run.scores.values())]
    cells = {run.name: _accuracy_cells(run, 0, benchmarks) for run in evaluated}
    if len({tuple(row) for row in cells.values()}) == 1:
        return [["base", *cells[evaluated[0].name]]]
    return [[f"base of {name}", *row] for name, row in cells.items()]


def _accuracy_cells(run: RunRecord, step: int, benchmarks: Sequence[str]) -> list[str]:
    cells = [_accuracy_cell(run, benchmark, step) for benchmark in benchmarks]
    if len(benchmarks) == 1:
        return cells
    mean = mean_accuracies(run, benchmarks).get(step)
    difference = run.difference_to_base(step, benchmarks)
    return [*cells, f"{_sign(difference)}{mean.text(100)}" if mean else NONE]


def _accuracy_cell(run: RunRecord, benchmark: str, step: int) -> str:
    estimate = run.accuracies(benchmark).get(step)
    if estimate is None:
        return NONE
    sign = _sign(run.difference_to_base(step, [benchmark]))
    partial = " PARTIAL" if run.scores[benchmark][step]["partial"] else ""
    return f"{sign}{estimate.text(100)}{partial}"


def _sign(difference: Difference | None) -> str:
    """▲ or ▼ where evaluation's test calls the difference to the base significant."""
    if difference is None or not difference.significant:
        return ""
    return "▲ " if difference.mean > 0 else "▼ "


def details(runs: Sequence[RunRecord]) -> Table:
    """What else the evaluation told of each base and checkpoint."""
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
        [f"{run.name}, {_checkpoint(step)}", benchmark, *_detail_cells(score)]
        for run in runs
        for benchmark, scores in run.scores.items()
        for step, score in scores.items()
    ]
    return Table("Every candidate", "Markers are per completion.", header, rows)


def _checkpoint(step: int) -> str:
    return f"step {step}" if step else "base"


def _detail_cells(score: Mapping[str, Any]) -> list[str]:
    return [
        f"{score['samples']}{' PARTIAL' if score['partial'] else ''}",
        f"{score['mean_tokens']:.0f}",
        f"{100 * score['truncation_rate']:.1f}",
        f"{100 * score['no_box_rate']:.1f}",
        f"{score['markers']:.2f}",
        f"{score['markers_per_1000_tokens']:.1f}",
    ]


def target_of(run: RunRecord) -> str:
    """The target in words: `pmi, beta 1.0, clip 10.0`."""
    target = {name: value for name, value in run.settings["target"].items() if value is not None}
    kind = str(target.pop("kind"))
    return ", ".join([kind, *(f"{name} {value}" for name, value in target.items())])


def _facts_of(run: RunRecord) -> dict[str, str]:
    settings = run.settings
    start = run.starts[-1] if run.starts else {}
    packages = start.get("packages", {})
    steps_taken = run.metrics[-1]["step"] if run.metrics else 0
    training_set = PurePath(str(settings["data"].get("path"))).name
    return {
        "arm": run.arm,
        "target": target_of(run),
        "model": "/".join(PurePath(str(settings["model"].get("path"))).parts[-2:]),
        "training set": f"{training_set}, {run.data.get('rows', '?')} rows",
        "steps taken": f"{steps_taken} of {settings.get('steps', '?')}",
        "questions a step": str(settings.get("batch_size", "?")),
        "checkpoints": _checkpoints(run),
        "best by evaluation": _best(run),
        "seed": str(settings.get("seed", "?")),
        "time": _time(run),
        "device": str(start.get("device", "?")),
        "processes": str(start.get("processes", "?")),
        "starts": f"{len(run.starts)}, the last {start.get('started', '?')}",
        "versions": ", ".join(f"{name} {version}" for name, version in packages.items() if version),
        "folder": str(run.folder),
    }


def _checkpoints(run: RunRecord) -> str:
    kept = ", ".join(map(str, run.checkpoints)) or "none"
    deleted = run.checkpoint_record.deleted
    return f"{kept} (deleted: {', '.join(map(str, deleted))})" if deleted else kept


def _best(run: RunRecord) -> str:
    """The best checkpoint, with what there is to say against it."""
    best = run.checkpoint_record.best
    if best is None:
        return NONE
    return (
        f"step {best.step}, {100 * best.accuracy:.1f} % in the run's own evaluations; the highest "
        f"of {best.of}, so too high"
    )


def _time(run: RunRecord) -> str:
    seconds = [sum(row.get("seconds", {}).values()) for row in run.metrics]
    if not seconds:
        return NONE
    return f"{sum(seconds) / 60:.1f} min, {median(seconds):.2f} s a step"


def _setting(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return NONE
    value = settings[name]
    return "null" if value is None else str(value)
