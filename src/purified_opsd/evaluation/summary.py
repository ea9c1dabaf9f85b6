"""Tables in the shape of the paper's Table 1, with what each number is worth."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from purified_opsd.storage.files import write_atomic

from .comparison import (
    Arm,
    Cells,
    Comparison,
    best_checkpoint,
    difference_to_base,
    drawing_of,
    groups_of,
    read_cells,
)
from .results import Graded, read_graded, score_of
from .statistics import SHARE, Difference, Estimate, average_of, problem_means


def write_table(folder: Path) -> None:
    """table.md: every candidate, base first, on every benchmark, and their mean."""
    write_atomic(folder / "table.md", table(folder))


def table(folder: Path) -> str:
    """The Markdown table of an evaluation."""
    cells = read_cells(folder)
    benchmarks = list(dict.fromkeys(benchmark for _, benchmark in cells))
    candidates = list(dict.fromkeys(candidate for candidate, _ in cells))
    rows = [_row(candidate, cells) for candidate in candidates]
    head = ["candidate", *benchmarks, "mean"] if len(benchmarks) > 1 else ["candidate", *benchmarks]
    notes = [
        "Accuracy in percent, avg@k over all runs, ± its standard error over problems and runs; in "
        "brackets its 95 % interval, where all problems came out alike. **Bold**: above the base, "
        "and significantly so (paired permutation test by problem, p < 0.05).",
        *_drawings(benchmarks, cells),
        *(
            ["PARTIAL: samples are still owed; the same command completes them."]
            if _partial(read_graded(folder))
            else []
        ),
        *(line for benchmark in benchmarks for line in _best_lines(benchmark, cells)),
    ]
    details = _details(cells.values())
    return (
        "\n".join([*_markdown(head, rows), "", *[f"{note}\n" for note in notes], *details]) + "\n"
    )


def comparison_table(first: Arm, second: Arm, comparison: Comparison) -> str:
    """Both arms by benchmark, the better one bold where the difference is significant, and the
    difference with its interval.
    """
    ours, theirs = first.graded(), second.graded()
    benchmarks = list(comparison.by_benchmark)
    differences = [
        *comparison.by_benchmark.values(),
        *([comparison.overall] if len(benchmarks) > 1 else []),
    ]
    groups = [[benchmark] for benchmark in benchmarks] + (
        [benchmarks] if len(benchmarks) > 1 else []
    )
    rows = []
    for arm, cells, sign in ((first, ours, 1), (second, theirs, -1)):
        better = [d is not None and d.significant and sign * d.value > 0 for d in differences]
        texts = [
            _accuracy([cells[name] for name in group], bold)
            for group, bold in zip(groups, better, strict=True)
        ]
        rows.append(
            [
                f"{arm.folder.parent.name}/{arm.candidate}"
                if arm.folder.name == "evaluation"
                else str(arm.folder),
                *texts,
            ]
        )
    rows.append(["difference", *map(_difference, differences)])
    head = ["arm", *benchmarks, *(["mean"] if len(benchmarks) > 1 else [])]
    notes = [
        "Accuracy in percent ± standard error; difference in points with its 95 % interval and "
        "p-value (paired permutation test)."
    ]
    if comparison.partial:
        notes.append("PARTIAL: samples are still owed; `purified-opsd evaluate` completes them.")
    return "\n".join([*_markdown(head, rows), "", *notes]) + "\n"


def _row(candidate: str, cells: Cells) -> list[str]:
    texts = []
    for group in groups_of(cells):
        if any((candidate, name) not in cells for name in group):
            texts.append("–")
            continue
        difference = difference_to_base(cells, candidate, group)
        better = difference is not None and difference.significant and difference.value > 0
        texts.append(_accuracy([cells[candidate, name] for name in group], better))
    return [candidate, *texts]


def _accuracy(graded: Sequence[Graded], bold: bool) -> str:
    means = [problem_means(g.correct_PR()) for g in graded]
    estimate = average_of([mean_P[~np.isnan(mean_P)] for mean_P in means], SHARE)
    value = float(np.mean([np.nanmean(mean_P) for mean_P in means]))
    text = f"**{100 * value:.1f}**" if bold else f"{100 * value:.1f}"
    return text + _error(estimate) + (" PARTIAL" if _partial(graded) else "")


def _error(estimate: Estimate | None) -> str:
    """The standard error, or the interval where nothing seen differs."""
    if estimate and estimate.standard_error == 0:
        return f" ({100 * estimate.low:.3g} to {100 * estimate.high:.3g})"
    return f" ± {100 * estimate.standard_error:.1f}" if estimate else ""


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return "too few problems"
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.value:+.1f} [{low:+.1f}, {high:+.1f}], p = {difference.p_value:.3f}"


def _drawings(benchmarks: Sequence[str], cells: Cells) -> list[str]:
    """How each benchmark was drawn, in one line; none before anything is."""
    texts = [
        ", ".join(f"{name} = {value}" for name, value in drawing_of(cells, benchmark).items())
        for benchmark in benchmarks
    ]
    if len(set(texts)) > 1:
        texts = [
            f"{benchmark} with {text}" for benchmark, text in zip(benchmarks, texts, strict=True)
        ]
    return [f"Drawn: {'; '.join(dict.fromkeys(texts))}."] if texts else []


def _best_lines(benchmark: str, cells: Cells) -> Iterable[str]:
    """Last, best and cross-fitted best of the checkpoints on one benchmark, where there are several
    and none is partial.
    """
    best = best_checkpoint(cells, benchmark)
    if best:
        count = sum(on == benchmark and name.startswith("step-") for name, on in cells)
        yield (
            f"{benchmark}, of {count} checkpoints: last {100 * best.last:.1f}; best "
            f"{100 * best.best:.1f}, which choosing the highest makes too high; as chosen on other "
            f"problems (cross-fitted) {100 * best.cross_fitted:.1f}."
        )


def _details(cells: Iterable[Graded]) -> list[str]:
    head = [
        "candidate",
        "benchmark",
        "samples",
        "pass@k",
        "majority@k",
        "tokens",
        "cut off",
        "no box",
        "ungraded",
        "markers/1000",
    ]
    rows = []
    for score in map(score_of, cells):
        most = max(score.pass_at, default=0)
        rows.append(
            [
                score.candidate,
                score.benchmark,
                f"{score.samples}/{score.problems * score.runs}{' PARTIAL' if score.partial else ''}",
                f"{100 * score.pass_at[most]:.1f} (k={most})" if most else "–",
                f"{100 * score.majority:.1f}",
                f"{score.mean_tokens:.0f}",
                f"{score.truncation_rate:.1%}",
                f"{score.no_box_rate:.1%}",
                f"{score.ungraded_rate:.1%}",
                f"{score.markers_per_1000_tokens:.1f}",
            ]
        )
    return _markdown(head, rows)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows]]


def _partial(cells: Iterable[Graded]) -> bool:
    return any(graded.partial for graded in cells)
