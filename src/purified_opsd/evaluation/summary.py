"""What an evaluation writes and prints: results.json, and tables in the shape of the paper's
Table 1 with the error of each number.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from purified_opsd.storage.files import write_atomic

from .comparison import (
    Arm,
    ByProblem,
    Comparison,
    benchmark_groups,
    best_checkpoint,
    checkpoints_on,
    difference_to_base,
    significant_sign,
)
from .comparison_notes import arm_names, difference_text, shared_notes
from .results import Results, Score
from .statistics import SHARE, Array, Estimate, average_of

SHOWN_SETTINGS = ("engine", "temperature", "top_p", "top_k", "max_new_tokens", "seed")
"""The generation settings that a table names; they are those of every candidate on a benchmark."""


def write_summary(folder: Path, results: Results) -> None:
    """Writes results.json and table.md."""
    record = json.dumps(results_record(results), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / "results.json", record + "\n")
    write_atomic(folder / "table.md", table(results))


def results_record(results: Results) -> dict[str, Any]:
    """The content of results.json: every score, every difference to the base, and the choice among
    checkpoints.
    """
    best = {name: best_checkpoint(results, name) for name in results.benchmarks}
    return {
        "partial": results.partial,
        "sampling": {name: _shown_settings(results, name) for name in results.benchmarks},
        "graders": _own_graders(results),
        "scores": [{"partial": score.partial, **asdict(score)} for score in results.scores],
        "differences_to_base": list(_difference_records(results)),
        "best_of_checkpoints": {name: asdict(choice) for name, choice in best.items() if choice},
    }


def _difference_records(results: Results) -> Iterable[dict[str, Any]]:
    for candidate in results.candidates:
        for group in benchmark_groups(results.benchmarks):
            difference = difference_to_base(results, candidate, group)
            if difference:
                yield {
                    "candidate": candidate,
                    "benchmarks": group,
                    **asdict(difference),
                    "significant": significant_sign(difference) != 0,
                }


def table(results: Results) -> str:
    """The Markdown table of an evaluation: every candidate on every benchmark, and their mean."""
    benchmarks = results.benchmarks
    head = ["candidate", *benchmarks]
    if len(benchmarks) > 1:
        head.append("mean")
    rows = [_row(results, candidate) for candidate in results.candidates]
    notes = [
        "Accuracy in percent, avg@k over all runs, ± its standard error over problems and runs; in "
        "brackets its 95 % interval, where all problems came out alike. **Bold**: above the base, "
        "and significantly so (paired permutation test by problem, p < 0.05).",
        *_settings_note(results),
        *(f"{name} is graded by {path}." for name, path in _own_graders(results).items()),
    ]
    if results.partial:
        notes.append("PARTIAL: samples are still owed; the same command completes them.")
    for benchmark in benchmarks:
        notes += _best_checkpoint_note(results, benchmark)
    paragraphs = [f"{note}\n" for note in notes]
    return "\n".join([*_markdown(head, rows), "", *paragraphs, *_details(results.scores)]) + "\n"


def comparison_table(comparison: Comparison) -> str:
    """Both arms by benchmark, the better one bold where the difference is significant, and the
    difference with its interval; every number is of the questions that both arms have.
    """
    benchmarks = list(comparison.shared)
    head = ["arm", *benchmarks]
    differences = list(comparison.by_benchmark.values())
    if len(benchmarks) > 1:
        head.append("mean")
        differences.append(comparison.overall)
    first = {name: both.first for name, both in comparison.shared.items()}
    second = {name: both.second for name, both in comparison.shared.items()}
    first_name, second_name = arm_names(comparison)
    first_bold = [significant_sign(difference) > 0 for difference in differences]
    second_bold = [significant_sign(difference) < 0 for difference in differences]
    rows = [
        [first_name, *_arm_cells(comparison.first, first, first_bold)],
        [second_name, *_arm_cells(comparison.second, second, second_bold)],
        ["difference", *map(difference_text, differences)],
    ]
    notes = [
        "Accuracy in percent ± standard error; difference in points with its 95 % interval and "
        "p-value (paired permutation test). All are of the questions that both arms have:",
        *shared_notes(comparison),
    ]
    if comparison.partial:
        notes.append("PARTIAL: samples are still owed; `purified-opsd evaluate` completes them.")
    return "\n".join([*_markdown(head, rows), "", *notes]) + "\n"


def _row(results: Results, candidate: str) -> list[str]:
    """The accuracies of a candidate, bold where it is significantly above the base."""
    texts = []
    for group in benchmark_groups(results.benchmarks):
        graded = [results.graded.get((candidate, benchmark)) for benchmark in group]
        known = [one for one in graded if one]
        if len(known) == len(group):
            bold = significant_sign(difference_to_base(results, candidate, group)) > 0
            values = [np.array(list(one.by_problem.values())) for one in known]
            texts.append(_accuracy_text(values, bold, any(one.partial for one in known)))
        else:
            texts.append("–")
    return [candidate, *texts]


def _arm_cells(arm: Arm, accuracies: Mapping[str, ByProblem], bold: Sequence[bool]) -> list[str]:
    """The accuracies of an arm on the shared questions, and their mean; `bold` holds one flag a
    group of benchmarks.
    """
    texts = []
    for group, is_bold in zip(benchmark_groups(list(accuracies)), bold, strict=True):
        values = [np.array(list(accuracies[benchmark].values())) for benchmark in group]
        partial = any(arm.graded[benchmark].partial for benchmark in group)
        texts.append(_accuracy_text(values, is_bold, partial))
    return texts


def _accuracy_text(values: Sequence[Array], bold: bool, partial: bool) -> str:
    """The mean over benchmarks of the mean over problems, with its error."""
    estimate = average_of(values, SHARE)
    value = 100 * float(np.mean([accuracy_P.mean() for accuracy_P in values]))
    text = f"**{value:.1f}**" if bold else f"{value:.1f}"
    return text + _error_text(estimate) + (" PARTIAL" if partial else "")


def _error_text(estimate: Estimate | None) -> str:
    """The standard error, or the interval where all values are the same."""
    if estimate is None:
        return ""
    if estimate.standard_error == 0:
        return f" ({100 * estimate.low:.3g} to {100 * estimate.high:.3g})"
    return f" ± {100 * estimate.standard_error:.1f}"


def _settings_note(results: Results) -> list[str]:
    """How each benchmark was sampled, in one line; none before anything is."""
    texts = {}
    for benchmark in results.benchmarks:
        settings = _shown_settings(results, benchmark)
        texts[benchmark] = ", ".join(f"{name} = {value}" for name, value in settings.items())
    different = list(dict.fromkeys(texts.values()))
    if len(different) > 1:
        different = [f"{benchmark} with {text}" for benchmark, text in texts.items()]
    return [f"Drawn: {'; '.join(different)}."] if different else []


def _own_graders(results: Results) -> dict[str, str]:
    """The Python paths of the user's own graders, by the benchmarks that they grade."""
    paths = {on: one.settings.get("grader") for (_, on), one in results.graded.items()}
    return {benchmark: path for benchmark, path in paths.items() if path}


def _shown_settings(results: Results, benchmark: str) -> dict[str, Any]:
    graded = next(one for (_, on), one in results.graded.items() if on == benchmark)
    return {name: graded.settings.get(name) for name in SHOWN_SETTINGS}


def _best_checkpoint_note(results: Results, benchmark: str) -> list[str]:
    """Last, best and cross-fitted best of the checkpoints on one benchmark, where there are several
    and none is partial.
    """
    best = best_checkpoint(results, benchmark)
    if best is None:
        return []
    count = len(checkpoints_on(results, benchmark))
    return [
        f"{benchmark}, of {count} checkpoints: last {100 * best.last:.1f}; best "
        f"{100 * best.best:.1f}, which choosing the highest makes too high; as chosen on other "
        f"problems (cross-fitted) {100 * best.cross_fitted:.1f}."
    ]


_DETAILS = [
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


def _details(scores: Iterable[Score]) -> list[str]:
    """A table of the other numbers of each score."""
    return _markdown(_DETAILS, map(_details_row, scores))


def _details_row(score: Score) -> list[str]:
    most = max(score.pass_at, default=0)
    partial = " PARTIAL" if score.partial else ""
    return [
        score.candidate,
        score.benchmark,
        f"{score.samples}/{score.problems * score.runs}{partial}",
        f"{100 * score.pass_at[most]:.1f} (k={most})" if most else "–",
        f"{100 * score.majority:.1f}",
        f"{score.mean_tokens:.0f}",
        f"{score.truncation_rate:.1%}",
        f"{score.no_box_rate:.1%}",
        f"{score.ungraded_rate:.1%}",
        f"{score.markers_per_1000_tokens:.1f}",
    ]


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows]]
