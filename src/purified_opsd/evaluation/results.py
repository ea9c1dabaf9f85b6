"""What an evaluation's samples amount to: one score a candidate and benchmark, read from the files
and nothing else.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from purified_opsd.analysis.markers import count_substrings, marker_counts
from purified_opsd.errors import RunError
from purified_opsd.evaluation.grading.boxed_answer import integer, plain
from purified_opsd.evaluation.grading.graders import Grade

from .sample_store import EvaluationRequest, Key, Sample, SampleFolder, read_request
from .statistics import Array, Estimate, average, majority, pass_at, problem_means, run_error

UNGRADED = Grade("ungraded", "not graded yet")


@dataclass(frozen=True)
class Graded:
    """The samples of one candidate on one benchmark with their grades, as far as they are there, of
    what was last asked.
    """

    candidate: str
    benchmark: str
    settings: dict[str, Any]
    asked: EvaluationRequest
    samples: dict[Key, Sample]
    grades: dict[Key, Grade]

    @property
    def partial(self) -> bool:
        return len(self.grades) < len(self.asked.questions) * self.asked.runs

    def correct_PR(self) -> Array:
        """1 or 0 by problem and run; nan where there is no grade yet."""
        return self._by_problem({key: float(grade.correct) for key, grade in self.grades.items()})

    def markers_PR(self) -> Array:
        """Epistemic markers by problem and run; nan where there is no grade yet."""
        return self._by_problem(
            {key: float(count_substrings([self.samples[key].text]).total()) for key in self.grades}
        )

    def answers(self, id: str) -> list[tuple[str, bool]]:
        """What was answered to a problem, and whether it is correct; runs without an answer are
        left out.
        """
        grades = [
            self.grades[run, id] for run in range(self.asked.runs) if (run, id) in self.grades
        ]
        return [
            (_canonical(grade.answer), grade.correct)
            for grade in grades
            if grade.answer is not None
        ]

    def _by_problem(self, values: Mapping[Key, float]) -> Array:
        return np.array(
            [
                [values.get((run, id), np.nan) for run in range(self.asked.runs)]
                for id in self.asked.questions
            ]
        )


@dataclass(frozen=True)
class Score:
    """One candidate on one benchmark.  Rates are shares of the samples; what is not graded is not
    correct.
    """

    candidate: str
    benchmark: str
    problems: int
    """That were asked."""
    runs: int
    """That were asked."""
    samples: int
    """That are there and graded."""
    accuracy: float
    """avg@k: the mean over problems of the share of correct samples."""
    interval: Estimate | None
    """Of the accuracy as one over all such problems; None with fewer than two."""
    run_error: float | None
    """Standard error on these very problems, from sampling alone; None with one run."""
    pass_at: dict[int, float]
    """By k: the chance that one of k samples is correct; k = 1, 2, 4, ... and all runs."""
    majority: float
    truncation_rate: float
    """Cut off at max_new_tokens."""
    no_box_rate: float
    ungraded_rate: float
    """For whatever reason, a missing box included."""
    mean_tokens: float
    markers: float
    """Epistemic markers a sample, Kim et al.'s way."""
    markers_interval: Estimate | None
    """Of the markers as an average over all such problems; None with fewer than two."""
    markers_per_1000_tokens: float
    marker_counts: dict[str, Any]
    """As substrings and as words: totals, rates, and each marker by itself."""
    by_problem: dict[str, float]
    """The share of correct samples of each problem that has any."""

    @property
    def partial(self) -> bool:
        return self.samples < self.problems * self.runs

    @property
    def standard_error(self) -> float | None:
        """Of the accuracy, over problems and runs."""
        return self.interval.standard_error if self.interval else None


@dataclass(frozen=True)
class Results:
    """Every score of an evaluation, benchmark by benchmark."""

    scores: tuple[Score, ...]
    partial: bool
    """Samples are owed: of a score, or of a candidate that has none yet."""

    def score(self, candidate: str, benchmark: str) -> Score:
        """Raises KeyError where there is none."""
        found = [
            score
            for score in self.scores
            if (score.candidate, score.benchmark) == (candidate, benchmark)
        ]
        if not found:
            raise KeyError(
                f"no score of {candidate} on {benchmark}; there are "
                f"{[(s.candidate, s.benchmark) for s in self.scores]}"
            )
        return found[0]


def read_graded(folder: Path) -> list[Graded]:
    """Every candidate on every benchmark in an evaluation's folder, base first.  Raises RunError
    where there is none.
    """
    benchmarks = sorted(file.parent for file in folder.glob("*/asked.json"))
    if not benchmarks:
        raise RunError(
            f"{folder} holds no evaluation: no benchmark in it was asked. Run `purified-opsd "
            "evaluate` first."
        )
    return [
        _graded(file.parent, read_request(benchmark))
        for benchmark in benchmarks
        for file in sorted(benchmark.glob("*/settings.json"))
    ]


def read_results(folder: Path) -> Results:
    """The scores of what the folder holds, complete or not."""
    everything = read_graded(folder)
    return Results(
        tuple(score_of(graded) for graded in everything if graded.grades),
        any(graded.partial for graded in everything),
    )


def score_of(graded: Graded) -> Score:
    """The score of the samples that are graded, one at least."""
    samples, grades, correct_PR = (
        [graded.samples[key] for key in graded.grades],
        list(graded.grades.values()),
        graded.correct_PR(),
    )
    runs, questions, mean_P = graded.asked.runs, graded.asked.questions, problem_means(correct_PR)
    tokens, markers_PR = sum(sample.tokens for sample in samples), graded.markers_PR()
    reasons = Counter(grade.reason for grade in grades)
    at = {
        k: pass_at(correct_PR, k)
        for k in sorted({*(2**n for n in range(runs.bit_length()) if 2**n <= runs), runs})
    }
    return Score(
        candidate=graded.candidate,
        benchmark=graded.benchmark,
        problems=len(questions),
        runs=runs,
        samples=len(samples),
        accuracy=float(np.nanmean(mean_P)),
        interval=average(correct_PR),
        run_error=run_error(correct_PR),
        pass_at={k: value for k, value in at.items() if value is not None},
        majority=majority(
            [
                graded.answers(id)
                for id, mean in zip(questions, mean_P, strict=True)
                if not np.isnan(mean)
            ]
        ),
        truncation_rate=_share([sample.finish_reason == "length" for sample in samples]),
        no_box_rate=reasons["no box"] / len(samples),
        ungraded_rate=_share([grade.verdict == "ungraded" for grade in grades]),
        mean_tokens=tokens / len(samples),
        markers=float(np.nanmean(markers_PR)),
        markers_interval=average(markers_PR, support=None),
        markers_per_1000_tokens=1000 * float(np.nansum(markers_PR)) / max(tokens, 1),
        marker_counts=marker_counts(
            [sample.text for sample in samples], tokens, graded.asked.markers
        ),
        by_problem={
            id: float(mean)
            for id, mean in zip(questions, mean_P, strict=True)
            if not np.isnan(mean)
        },
    )


def _graded(folder: Path, asked: EvaluationRequest) -> Graded:
    here = SampleFolder(folder)
    questions = set(asked.questions)
    samples = {
        (run, id): sample
        for (run, id), sample in here.samples().items()
        if run < asked.runs and id in questions
    }
    grades = {key: grade for key, grade in here.grades().items() if key in samples}
    return Graded(folder.name, folder.parent.name, here.settings(), asked, samples, grades)


def _canonical(answer: str) -> str:
    number = integer(answer)
    return plain(answer) if number is None else str(number)


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)
