"""Two arms on the same problems: what their difference is, and whether chance alone would give one as large."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from purified_opsd.reporting.records import RunError

from .plan import BASE
from .results import Graded, read_graded
from .statistics import Difference, compare, problem_means

MAY_DIFFER = {"weights", "seed"}
"""Of what samples were drawn with; anything else that differs makes a difference of two arms mean nothing."""


@dataclass(frozen=True)
class Arm:
    """One candidate of an evaluation's folder."""

    folder: Path
    candidate: str

    def graded(self) -> dict[str, Graded]:
        """By benchmark.  Raises RunError where the folder has no such candidate."""
        everything = read_graded(self.folder)
        found = {graded.benchmark: graded for graded in everything if graded.candidate == self.candidate and graded.grades}
        if not found:
            there = ", ".join(sorted({graded.candidate for graded in everything}))
            raise RunError(f"{self.folder} has no samples of {self.candidate}; it has {there or 'none'}.")
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
        {graded.candidate for graded in read_graded(folder)}, key=lambda name: (name.startswith("step-"), name != BASE, name)
    )


def compare_arms(first: Arm, second: Arm, seed: int = 0) -> Comparison:
    """Both arms on every benchmark that both were asked.  Raises RunError where there is none, or they were not asked alike."""
    ours, theirs = first.graded(), second.graded()
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise RunError(
            f"{first.folder} was asked {', '.join(ours)} and {second.folder} {', '.join(theirs)}: no benchmark in common, so "
            "there is nothing to compare. Evaluate both on one."
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
                f"On {one.benchmark} the arms were not asked alike: {name} is {one.settings.get(name)} for {one.candidate} and "
                f"{other.settings.get(name)} for {other.candidate}, so their difference would be one of settings. Evaluate both "
                "with the same."
            )
