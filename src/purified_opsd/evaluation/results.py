"""The graded samples of an evaluation, and one score a candidate and benchmark made of them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from purified_opsd.analysis.markers import count_substrings, marker_counts
from purified_opsd.errors import RunError
from purified_opsd.evaluation.grading.boxed_answer import integer, plain
from purified_opsd.evaluation.grading.graders import Grade

from .sample_store import (
    BenchmarkRequest,
    Sample,
    SampleKey,
    StoredSamples,
    requested_benchmarks,
    sample_folders,
)
from .statistics import Array, Estimate, average, majority, pass_at, problem_means, run_error


@dataclass(frozen=True)
class GradedSamples:
    """The samples of one candidate on one benchmark that were last requested, as far as there are
    any, and the grades of those that are graded.
    """

    candidate: str
    benchmark: str
    settings: Mapping[str, Any]
    """What the samples were generated with."""
    request: BenchmarkRequest
    samples: Mapping[SampleKey, Sample]
    grades: Mapping[SampleKey, Grade]

    @property
    def partial(self) -> bool:
        return len(self.grades) < self.request.completions

    @cached_property
    def correct_PR(self) -> Array:
        """1 or 0 by problem and run; nan where there is no grade yet."""
        return self._by_problem({key: float(grade.correct) for key, grade in self.grades.items()})

    @cached_property
    def accuracy_P(self) -> Array:
        """The share of correct samples of each problem; nan where none is graded."""
        return problem_means(self.correct_PR)

    @cached_property
    def by_problem(self) -> dict[str, float]:
        """The share of correct samples of each problem that has a graded one."""
        return {
            id: float(accuracy)
            for id, accuracy in zip(self.request.questions, self.accuracy_P, strict=True)
            if not np.isnan(accuracy)
        }

    def markers_PR(self) -> Array:
        """Epistemic markers by problem and run; nan where there is no grade yet."""
        counts = {}
        for key in self.grades:
            counts[key] = float(count_substrings([self.samples[key].text]).total())
        return self._by_problem(counts)

    def answers(self, id: str) -> list[tuple[str, bool]]:
        """The answers to a problem, and whether each is correct; runs without an answer are left
        out.
        """
        keys = [(run, id) for run in range(self.request.runs)]
        grades = [self.grades[key] for key in keys if key in self.grades]
        return [
            (_canonical(grade.answer), grade.correct)
            for grade in grades
            if grade.answer is not None
        ]

    def _by_problem(self, values: Mapping[SampleKey, float]) -> Array:
        runs = range(self.request.runs)
        rows = [[values.get((run, id), np.nan) for run in runs] for id in self.request.questions]
        return np.array(rows)


def select_requested(
    candidate: str,
    benchmark: str,
    settings: Mapping[str, Any],
    request: BenchmarkRequest,
    stored: StoredSamples,
) -> GradedSamples:
    """The stored samples and grades that belong to what was last requested."""
    questions = set(request.questions)
    samples = {
        (run, id): sample
        for (run, id), sample in stored.samples.items()
        if run < request.runs and id in questions
    }
    grades = {key: grade for key, grade in stored.grades.items() if key in samples}
    return GradedSamples(candidate, benchmark, settings, request, samples, grades)


@dataclass(frozen=True)
class Score:
    """One candidate on one benchmark.  Rates are shares of the samples; what is not graded is not
    correct.
    """

    candidate: str
    benchmark: str
    problems: int
    """How many were requested."""
    runs: int
    """How many were requested."""
    samples: int
    """How many there are, graded."""
    accuracy: float
    """avg@k: the mean over problems of the share of correct samples."""
    interval: Estimate | None
    """The accuracy as that of all such problems; None with fewer than two."""
    run_error: float | None
    """Standard error on these very problems, from sampling alone; None with one run."""
    pass_at: dict[int, float]
    """By k: the chance that one of k samples is correct; k = 1, 2, 4, ... and all runs."""
    majority: float
    truncation_rate: float
    """The share that was cut off at max_new_tokens."""
    no_box_rate: float
    ungraded_rate: float
    """The share that is not graded for whatever reason, a missing box included."""
    mean_tokens: float
    markers: float
    """Epistemic markers a sample, Kim et al.'s way."""
    markers_interval: Estimate | None
    """The markers as an average over all such problems; None with fewer than two."""
    markers_per_1000_tokens: float
    marker_counts: dict[str, Any]
    """As substrings and as words: totals, rates, and each marker by itself."""
    by_problem: dict[str, float]
    """The share of correct samples of each problem that has any sample."""

    @property
    def partial(self) -> bool:
        return self.samples < self.problems * self.runs

    @property
    def standard_error(self) -> float | None:
        """The error of the accuracy, over problems and runs."""
        return self.interval.standard_error if self.interval else None


class Results:
    """All graded samples of an evaluation, read once, and what is made of them."""

    def __init__(self, graded: Iterable[GradedSamples]):
        self.everything = sorted(graded, key=lambda one: (one.benchmark, one.candidate))
        """Every candidate on every benchmark, by benchmark, those without a grade included."""

    @cached_property
    def graded(self) -> dict[tuple[str, str], GradedSamples]:
        """What has a grade, by candidate and benchmark."""
        return {(one.candidate, one.benchmark): one for one in self.everything if one.grades}

    @property
    def candidates(self) -> list[str]:
        return list(dict.fromkeys(candidate for candidate, _ in self.graded))

    @property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(benchmark for _, benchmark in self.graded))

    @property
    def partial(self) -> bool:
        """Are samples pending, of a score or of a candidate that has none yet?"""
        return any(one.partial for one in self.everything)

    @cached_property
    def scores(self) -> list[Score]:
        """Every score, benchmark by benchmark."""
        return [score_samples(one) for one in self.graded.values()]

    def score(self, candidate: str, benchmark: str) -> Score:
        """Raises KeyError where there is none."""
        for score in self.scores:
            if (score.candidate, score.benchmark) == (candidate, benchmark):
                return score
        raise KeyError(f"no score of {candidate} on {benchmark}; there are {list(self.graded)}")


def read_results(folder: Path) -> Results:
    """Everything that an evaluation's folder holds, complete or not; each file is read once.
    Raises RunError where the folder holds no evaluation.
    """
    graded = read_graded(folder)
    if not graded and not requested_benchmarks(folder):
        raise RunError(
            f"{folder} holds no evaluation: no benchmark in it was evaluated. Run `purified-opsd "
            "evaluate` first."
        )
    return Results(graded)


def read_graded(folder: Path, skip: Collection[tuple[str, str]] = ()) -> list[GradedSamples]:
    """The graded samples of every candidate on every benchmark but those in `skip` (pairs of a
    candidate and a benchmark); empty where the folder holds no evaluation.
    """
    graded = []
    for benchmark_folder, request in requested_benchmarks(folder).items():
        for samples in sample_folders(benchmark_folder):
            candidate, benchmark = samples.folder.name, benchmark_folder.name
            if (candidate, benchmark) not in skip:
                settings, stored = samples.settings(), samples.read()
                graded.append(select_requested(candidate, benchmark, settings, request, stored))
    return graded


def score_samples(graded: GradedSamples) -> Score:
    """The score of the samples that are graded, one at least."""
    request, correct_PR = graded.request, graded.correct_PR
    samples = [graded.samples[key] for key in graded.grades]
    grades = list(graded.grades.values())
    tokens = sum(sample.tokens for sample in samples)
    texts = [sample.text for sample in samples]
    markers_PR = graded.markers_PR()
    reasons = Counter(grade.reason for grade in grades)
    return Score(
        candidate=graded.candidate,
        benchmark=graded.benchmark,
        problems=len(request.questions),
        runs=request.runs,
        samples=len(samples),
        accuracy=float(np.nanmean(graded.accuracy_P)),
        interval=average(correct_PR),
        run_error=run_error(correct_PR),
        pass_at=_pass_at_all(correct_PR, request.runs),
        majority=majority([graded.answers(id) for id in graded.by_problem]),
        truncation_rate=_share([sample.finish_reason == "length" for sample in samples]),
        no_box_rate=reasons["no box"] / len(samples),
        ungraded_rate=_share([grade.verdict == "ungraded" for grade in grades]),
        mean_tokens=tokens / len(samples),
        markers=float(np.nanmean(markers_PR)),
        markers_interval=average(markers_PR, support=None),
        markers_per_1000_tokens=1000 * float(np.nansum(markers_PR)) / max(tokens, 1),
        marker_counts=marker_counts(texts, tokens, request.markers),
        by_problem=graded.by_problem,
    )


def _pass_at_all(correct_PR: Array, runs: int) -> dict[int, float]:
    """pass@k for k = 1, 2, 4, ... and all runs, where every problem has k samples."""
    powers = [2**n for n in range(runs.bit_length())]
    chances = {k: pass_at(correct_PR, k) for k in sorted({*powers, runs})}
    return {k: chance for k, chance in chances.items() if chance is not None}


def _canonical(answer: str) -> str:
    number = integer(answer)
    return plain(answer) if number is None else str(number)


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
