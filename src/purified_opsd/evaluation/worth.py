"""What the candidates of an evaluation are worth beside their base and beside each other; and results.json, which says so."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from purified_opsd.reporting.records import write_whole

from .comparison import difference_of
from .plan import BASE
from .results import Graded, read_graded, read_results
from .statistics import BestOf, Difference, best_of, problem_means

Cells = Mapping[tuple[str, str], Graded]
"""By candidate and benchmark."""


def read_cells(folder: Path) -> Cells:
    """Everything in an evaluation's folder that has a grade, base first."""
    return {(graded.candidate, graded.benchmark): graded for graded in read_graded(folder) if graded.grades}


def drawing_of(cells: Cells, benchmark: str) -> dict[str, Any]:
    """How the samples of a benchmark were drawn, of every candidate alike."""
    settings = next(graded.settings for (_, on), graded in cells.items() if on == benchmark)
    return {name: settings.get(name) for name in ("engine", "temperature", "top_p", "top_k", "max_new_tokens", "seed")}


def groups_of(cells: Cells) -> list[list[str]]:
    """The benchmarks by which a candidate is judged: each by itself, and where there are several, all of them together."""
    benchmarks = list(dict.fromkeys(benchmark for _, benchmark in cells))
    return [[benchmark] for benchmark in benchmarks] + ([benchmarks] if len(benchmarks) > 1 else [])


def difference_to_base(cells: Cells, candidate: str, group: Sequence[str]) -> Difference | None:
    """None for the base itself, where either was not asked all of the group, and with too few problems."""
    pairs = [(cells[candidate, name], cells[BASE, name]) for name in group if {(candidate, name), (BASE, name)} <= cells.keys()]
    return difference_of(pairs) if len(pairs) == len(group) and candidate != BASE else None


def best_checkpoint(cells: Cells, benchmark: str) -> BestOf | None:
    """Last, best and cross-fitted best of the checkpoints; None where there are fewer than two, or one is partial."""
    checkpoints = sorted(name for name, on in cells if on == benchmark and name.startswith("step-"))
    graded = [cells[name, benchmark] for name in checkpoints]
    if len(checkpoints) < 2 or any(one.partial for one in graded):
        return None
    return best_of(np.stack([problem_means(one.correct_PR()) for one in graded]), seed=0)


def write_results(folder: Path) -> None:
    """results.json: every score, every difference to the base, and the choice among checkpoints, of what is there."""
    cells, results = read_cells(folder), read_results(folder)
    best = {group[0]: best_checkpoint(cells, group[0]) for group in groups_of(cells) if len(group) == 1}
    record = {
        "partial": results.partial,
        "sampling": {benchmark: drawing_of(cells, benchmark) for benchmark in dict.fromkeys(on for _, on in cells)},
        "scores": [{"partial": score.partial, **asdict(score)} for score in results.scores],
        "differences_to_base": _differences(cells),
        "best_of_checkpoints": {name: asdict(found) for name, found in best.items() if found},
    }
    write_whole(folder / "results.json", json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _differences(cells: Cells) -> list[dict[str, Any]]:
    found = [
        (candidate, group, difference_to_base(cells, candidate, group))
        for candidate in dict.fromkeys(candidate for candidate, _ in cells)
        for group in groups_of(cells)
    ]
    return [
        {"candidate": candidate, "benchmarks": group, **asdict(difference), "significant": difference.significant}
        for candidate, group, difference in found
        if difference
    ]
