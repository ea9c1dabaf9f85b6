"""Two candidates on the same problems: what their difference is, and whether chance alone would
give one as large.  Every table, file and report takes its word from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from purified_opsd.errors import RunError
from purified_opsd.storage.run_dir import BASE

from .results import GradedSamples, Results, select_requested
from .sample_store import requested_benchmarks, sample_folders
from .statistics import BestOf, Difference, best_of, compare

MAY_DIFFER = {"weights", "seed"}
"""The generation settings in which two compared candidates may differ; if any other did, their
difference would mean nothing.
"""


ByProblem = Mapping[str, float]
"""The accuracy of one candidate on each problem of a benchmark, by the problem's id."""


def paired_difference(
    first: Sequence[ByProblem], second: Sequence[ByProblem], seed: int = 0
) -> Difference | None:
    """First candidate minus second, on the problems that both have.

    `first` and `second` hold one item a benchmark, in the same order; the difference is averaged
    over benchmarks.  None with fewer than two problems on one of them.
    """
    first_P, second_P = [], []
    for ours, theirs in zip(first, second, strict=True):
        shared = [id for id in ours if id in theirs]
        first_P.append(np.array([ours[id] for id in shared]))
        second_P.append(np.array([theirs[id] for id in shared]))
    return compare(first_P, second_P, seed)


def significant_sign(difference: Difference | None) -> int:
    """The one rule of significance: 1 where the first candidate is significantly better, -1 where
    the second is, and 0 where chance alone could give such a difference, or nothing is known.
    """
    if difference is None or not difference.significant:
        return 0
    return 1 if difference.value > 0 else -1


def benchmark_groups(benchmarks: Sequence[str]) -> list[list[str]]:
    """The groups of benchmarks by which candidates are judged: each benchmark by itself, and where
    there are several, all of them together.
    """
    groups = [[benchmark] for benchmark in benchmarks]
    if len(benchmarks) > 1:
        groups.append(list(benchmarks))
    return groups


def difference_to_base(results: Results, candidate: str, group: Sequence[str]) -> Difference | None:
    """A candidate minus the base on a group of benchmarks.  None for the base itself, where either
    was not evaluated on all of the group, and with too few problems.
    """
    graded = results.graded
    keys = [(name, benchmark) for name in (candidate, BASE) for benchmark in group]
    if candidate == BASE or any(key not in graded for key in keys):
        return None
    ours = [graded[candidate, benchmark].by_problem for benchmark in group]
    bases = [graded[BASE, benchmark].by_problem for benchmark in group]
    return paired_difference(ours, bases)


def best_checkpoint(results: Results, benchmark: str) -> BestOf | None:
    """Last, best and cross-fitted best of the checkpoints; None where there are fewer than two, or
    one is partial.
    """
    names = checkpoints_on(results, benchmark)
    graded = [results.graded[name, benchmark] for name in names]
    if len(graded) < 2 or any(one.partial for one in graded):
        return None
    return best_of(np.stack([one.accuracy_P for one in graded]), seed=0)


def checkpoints_on(results: Results, benchmark: str) -> list[str]:
    """The checkpoints with graded samples on a benchmark, oldest first."""
    names = [name for name, on in results.graded if on == benchmark]
    return sorted(name for name in names if name.startswith("step-"))


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a candidate of an evaluation, and its samples by benchmark."""

    folder: Path
    candidate: str
    graded: Mapping[str, GradedSamples]


@dataclass(frozen=True)
class SharedQuestions:
    """The questions of one benchmark on which both arms have graded samples, and how many are left
    out because one arm has none.
    """

    first: ByProblem
    second: ByProblem
    """The accuracies of each arm on the same questions, in the same order."""
    first_alone: int
    """Questions left out that only the first arm has."""
    second_alone: int
    """Questions left out that only the second arm has."""


@dataclass(frozen=True)
class Comparison:
    """First arm minus second, on the questions that both have of the benchmarks that both were
    evaluated on.
    """

    first: Arm
    second: Arm
    shared: Mapping[str, SharedQuestions]
    """By benchmark; every number of the comparison is of these questions."""
    by_benchmark: dict[str, Difference | None]
    overall: Difference | None
    """The mean over the benchmarks; None with too few problems."""
    partial: bool


def newest_candidate(folder: Path) -> str:
    """The last checkpoint in an evaluation's folder, or its adapter; the base where it has neither.
    Raises RunError where the folder holds no evaluation.
    """
    return max(_candidates(folder), key=lambda name: (name.startswith("step-"), name != BASE, name))


def _candidates(folder: Path) -> set[str]:
    """The names of all candidates.  Raises RunError where there is none."""
    names = {
        samples.folder.name
        for benchmark in requested_benchmarks(folder)
        for samples in sample_folders(benchmark)
    }
    if not names:
        raise RunError(
            f"{folder} holds no evaluation: no benchmark in it was evaluated. Run `purified-opsd "
            "evaluate` first."
        )
    return names


def read_arm(folder: Path, candidate: str) -> Arm:
    """Reads the samples of one candidate.  Raises RunError where the folder has none of it."""
    names = _candidates(folder)
    graded = {}
    for benchmark, request in requested_benchmarks(folder).items():
        for samples in sample_folders(benchmark):
            if samples.folder.name == candidate:
                settings, stored = samples.settings(), samples.read()
                one = select_requested(candidate, benchmark.name, settings, request, stored)
                if one.grades:
                    graded[benchmark.name] = one
    if not graded:
        raise RunError(
            f"{folder} has no samples of {candidate}; it has {', '.join(sorted(names))}."
        )
    return Arm(folder, candidate, graded)


def compare_candidates(first: tuple[Path, str], second: tuple[Path, str]) -> Comparison:
    """Compares two candidates, each given by its evaluation's folder and its name.  Raises RunError
    as `read_arm` and `compare_arms` do.
    """
    arms = {key: read_arm(*key) for key in dict.fromkeys([first, second])}
    return compare_arms(arms[first], arms[second])


def compare_arms(first: Arm, second: Arm, seed: int = 0) -> Comparison:
    """Both arms on every benchmark that both were evaluated on.  Raises RunError where there is
    none, their samples were not generated alike, or they share no question of one.
    """
    benchmarks = [name for name in first.graded if name in second.graded]
    if not benchmarks:
        raise RunError(
            f"{first.folder} was asked {', '.join(first.graded)} and {second.folder} "
            f"{', '.join(second.graded)}: no benchmark in common, so there is nothing to compare. "
            "Evaluate both on one."
        )
    for name in benchmarks:
        _refuse_unlike(first.graded[name], second.graded[name])
    shared = {name: _shared_questions(first, second, name) for name in benchmarks}
    by_benchmark = {
        name: paired_difference([both.first], [both.second], seed) for name, both in shared.items()
    }
    ours = [both.first for both in shared.values()]
    theirs = [both.second for both in shared.values()]
    overall = paired_difference(ours, theirs, seed)
    partial = any(arm.graded[name].partial for arm in (first, second) for name in benchmarks)
    return Comparison(first, second, shared, by_benchmark, overall, partial)


def _shared_questions(first: Arm, second: Arm, benchmark: str) -> SharedQuestions:
    """Raises RunError where there is none."""
    ours = first.graded[benchmark].by_problem
    theirs = second.graded[benchmark].by_problem
    ids = [id for id in ours if id in theirs]
    if not ids:
        raise RunError(
            f"On {benchmark} the arms share no question: {first.folder} has graded samples of "
            f"{len(ours)} and {second.folder} of {len(theirs)} others, so there is nothing to "
            "pair. Evaluate both with the same --limit, to the end."
        )
    return SharedQuestions(
        first={id: ours[id] for id in ids},
        second={id: theirs[id] for id in ids},
        first_alone=len(ours) - len(ids),
        second_alone=len(theirs) - len(ids),
    )


_OTHER_SET = {"questions", "answers"}
"""The settings that are fingerprints of the set itself, which tell a reader nothing."""


def _refuse_unlike(one: GradedSamples, other: GradedSamples) -> None:
    for name in sorted((one.settings.keys() | other.settings.keys()) - MAY_DIFFER):
        before, after = one.settings.get(name), other.settings.get(name)
        if before == after:
            continue
        if name in _OTHER_SET:
            raise RunError(
                f"Under the name {one.benchmark} the arms were asked two different sets: their "
                f"{name} are not the same (fingerprints {before} and {after}), so no question of "
                "one stands for one of the other. Evaluate both on the same file."
            )
        raise RunError(
            f"On {one.benchmark} the arms were not asked alike: {name} is {before} for "
            f"{one.candidate} and {after} for {other.candidate}, so their difference would be one "
            "of settings. Evaluate both with the same."
        )
