"""Two arms on the same problems: what their difference is, and whether chance alone would give one
as large.

What the candidates of an evaluation are worth beside their base and beside each other; and
results.json, which says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from purified_opsd.errors import RunError
from purified_opsd.storage.files import write_atomic

from .requests import BASE
from .results import Graded, read_graded, read_results
from .statistics import BestOf, Difference, best_of, compare, problem_means

MAY_DIFFER = {"weights", "seed"}
"""Of what samples were drawn with; anything else that differs makes a difference of two arms mean
nothing.
"""


@dataclass(frozen=True)
class Arm:
    """One candidate of an evaluation's folder."""

    folder: Path
    candidate: str

    def graded(self) -> dict[str, Graded]:
        """By benchmark.  Raises RunError where the folder has no such candidate."""
        everything = read_graded(self.folder)
        found = {
            graded.benchmark: graded
            for graded in everything
            if graded.candidate == self.candidate and graded.grades
        }
        if not found:
            there = ", ".join(sorted({graded.candidate for graded in everything}))
            raise RunError(
                f"{self.folder} has no samples of {self.candidate}; it has {there or 'none'}."
            )
        return found


@dataclass(frozen=True)
class Comparison:
    """First arm minus second."""

    by_benchmark: dict[str, Difference | None]
    overall: Difference | None
    """The mean over the benchmarks that both were asked; None with too few problems."""
    partial: bool


def newest_candidate(folder: Path) -> str:
    """The last checkpoint in an evaluation's folder, or its adapter; the base where it has neither."""
    return max(
        {graded.candidate for graded in read_graded(folder)},
        key=lambda name: (name.startswith("step-"), name != BASE, name),
    )


def compare_arms(first: Arm, second: Arm, seed: int = 0) -> Comparison:
    """Both arms on every benchmark that both were asked.  Raises RunError where there is none, or
    they were not asked alike.
    """
    ours, theirs = first.graded(), second.graded()
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise RunError(
            f"{first.folder} was asked {', '.join(ours)} and {second.folder} {', '.join(theirs)}: "
            "no benchmark in common, so there is nothing to compare. Evaluate both on one."
        )
    pairs = [(ours[name], theirs[name]) for name in shared]
    for one, other in pairs:
        _refuse_unlike(one, other)
    return Comparison(
        {name: difference_of([pair], seed) for name, pair in zip(shared, pairs, strict=True)},
        difference_of(pairs, seed),
        any(graded.partial for pair in pairs for graded in pair),
    )


def difference_of(pairs: Sequence[tuple[Graded, Graded]], seed: int = 0) -> Difference | None:
    """First minus second, averaged over benchmarks, on the problems that both have."""
    first_P, second_P = [], []
    for one, other in pairs:
        ids = [id for id in one.asked.questions if id in set(other.asked.questions)]
        for means, graded in ((first_P, one), (second_P, other)):
            place = {id: i for i, id in enumerate(graded.asked.questions)}
            means.append(problem_means(graded.correct_PR())[[place[id] for id in ids]])
    return compare(first_P, second_P, seed)


def _refuse_unlike(one: Graded, other: Graded) -> None:
    for name in sorted((one.settings.keys() | other.settings.keys()) - MAY_DIFFER):
        if one.settings.get(name) != other.settings.get(name):
            raise RunError(
                f"On {one.benchmark} the arms were not asked alike: {name} is "
                f"{one.settings.get(name)} for {one.candidate} and {other.settings.get(name)} for "
                f"{other.candidate}, so their difference would be one of settings. Evaluate both "
                "with the same."
            )


pass

Cells = Mapping[tuple[str, str], Graded]
"""By candidate and benchmark."""


def read_cells(folder: Path) -> Cells:
    """Everything in an evaluation's folder that has a grade, base first."""
    return {
        (graded.candidate, graded.benchmark): graded
        for graded in read_graded(folder)
        if graded.grades
    }


def drawing_of(cells: Cells, benchmark: str) -> dict[str, Any]:
    """How the samples of a benchmark were drawn, of every candidate alike."""
    settings = next(graded.settings for (_, on), graded in cells.items() if on == benchmark)
    return {
        name: settings.get(name)
        for name in ("engine", "temperature", "top_p", "top_k", "max_new_tokens", "seed")
    }


def groups_of(cells: Cells) -> list[list[str]]:
    """The benchmarks by which a candidate is judged: each by itself, and where there are several,
    all of them together.
    """
    benchmarks = list(dict.fromkeys(benchmark for _, benchmark in cells))
    return [[benchmark] for benchmark in benchmarks] + ([benchmarks] if len(benchmarks) > 1 else [])


def difference_to_base(cells: Cells, candidate: str, group: Sequence[str]) -> Difference | None:
    """None for the base itself, where either was not asked all of the group, and with too few
    problems.
    """
    pairs = [
        (cells[candidate, name], cells[BASE, name])
        for name in group
        if {(candidate, name), (BASE, name)} <= cells.keys()
    ]
    return difference_of(pairs) if len(pairs) == len(group) and candidate != BASE else None


def best_checkpoint(cells: Cells, benchmark: str) -> BestOf | None:
    """Last, best and cross-fitted best of the checkpoints; None where there are fewer than two, or
    one is partial.
    """
    checkpoints = sorted(name for name, on in cells if on == benchmark and name.startswith("step-"))
    graded = [cells[name, benchmark] for name in checkpoints]
    if len(checkpoints) < 2 or any(one.partial for one in graded):
        return None
    return best_of(np.stack([problem_means(one.correct_PR()) for one in graded]), seed=0)


def write_results(folder: Path) -> None:
    """results.json: every score, every difference to the base, and the choice among checkpoints, of
    what is there.
    """
    cells, results = read_cells(folder), read_results(folder)
    best = {
        group[0]: best_checkpoint(cells, group[0]) for group in groups_of(cells) if len(group) == 1
    }
    record = {
        "partial": results.partial,
        "sampling": {
            benchmark: drawing_of(cells, benchmark)
            for benchmark in dict.fromkeys(on for _, on in cells)
        },
        "scores": [{"partial": score.partial, **asdict(score)} for score in results.scores],
        "differences_to_base": _differences(cells),
        "best_of_checkpoints": {name: asdict(found) for name, found in best.items() if found},
    }
    write_atomic(
        folder / "results.json",
        json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    )


def _differences(cells: Cells) -> list[dict[str, Any]]:
    found = [
        (candidate, group, difference_to_base(cells, candidate, group))
        for candidate in dict.fromkeys(candidate for candidate, _ in cells)
        for group in groups_of(cells)
    ]
    return [
        {
            "candidate": candidate,
            "benchmarks": group,
            **asdict(difference),
            "significant": difference.significant,
        }
        for candidate, group, difference in found
        if difference
    ]
