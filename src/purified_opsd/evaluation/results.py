"""What an evaluation's samples amount to: one score a candidate and benchmark, read from the files and nothing else."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from purified_opsd.analysis.markers import count_substrings
from purified_opsd.reporting.records import RunError, write_whole

from .grading import Grade
from .samples import Asked, Key, Sample, SampleFolder, read_asked

UNGRADED = Grade("ungraded", "not graded yet")


@dataclass(frozen=True)
class Score:
    """One candidate on one benchmark.  Rates are shares of the samples; what is not graded is not correct."""

    candidate: str
    benchmark: str
    problems: int
    """That were asked."""
    runs: int
    """That were asked."""
    samples: int
    """That are there."""
    accuracy: float
    """avg@k: the mean over problems of the share of correct samples."""
    standard_error: float | None
    """Of the accuracy, over problems; None with fewer than two."""
    truncation_rate: float
    """Cut off at max_new_tokens."""
    no_box_rate: float
    ungraded_rate: float
    """For whatever reason, no box included."""
    mean_tokens: float
    markers: float
    """Epistemic markers a sample, Kim et al.'s way."""
    markers_standard_error: float | None
    """Over problems; None with fewer than two."""
    markers_per_1000_tokens: float

    @property
    def partial(self) -> bool:
        return self.samples < self.problems * self.runs


@dataclass(frozen=True)
class Results:
    """Every score of an evaluation, benchmark by benchmark."""

    scores: tuple[Score, ...]

    @property
    def partial(self) -> bool:
        return any(score.partial for score in self.scores)

    def score(self, candidate: str, benchmark: str) -> Score:
        """Raises KeyError where there is none."""
        found = [score for score in self.scores if (score.candidate, score.benchmark) == (candidate, benchmark)]
        if not found:
            raise KeyError(f"no score of {candidate} on {benchmark}; there are {[(s.candidate, s.benchmark) for s in self.scores]}")
        return found[0]


@dataclass(frozen=True)
class Graded:
    """The samples of one candidate on one benchmark with their grades, as far as they are there, of what was last asked."""

    candidate: str
    benchmark: str
    asked: Asked
    samples: dict[Key, Sample]
    grades: dict[Key, Grade]

    def correct_PR(self) -> np.ndarray:
        """1 or 0 by problem and run; nan where the sample is missing."""
        return self.by_problem({key: float(grade.correct) for key, grade in self.grades.items()})

    def by_problem(self, values: Mapping[Key, float]) -> np.ndarray:
        """A number of each sample by problem and run; nan where it is missing."""
        runs = range(self.asked.runs)
        return np.array([[values.get((run, id), np.nan) for run in runs] for id in self.asked.questions])


def read_graded(folder: Path) -> list[Graded]:
    """Every candidate on every benchmark in an evaluation's folder.  Raises RunError where there is none."""
    benchmarks = sorted(file.parent for file in folder.glob("*/asked.json"))
    if not benchmarks:
        raise RunError(f"{folder} holds no evaluation: no benchmark in it was asked. Run `purified-opsd evaluate` first.")
    return [
        _graded(file.parent, read_asked(benchmark))
        for benchmark in benchmarks
        for file in sorted(benchmark.glob("*/settings.json"))
    ]


def read_results(folder: Path) -> Results:
    """The scores of what the folder holds, complete or not."""
    return Results(tuple(score_of(graded) for graded in read_graded(folder) if graded.samples))


def write_results(folder: Path, results: Results) -> None:
    """results.json, from the scores."""
    rows = [{**asdict(score), "partial": score.partial} for score in results.scores]
    text = json.dumps({"partial": results.partial, "scores": rows}, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / "results.json", text + "\n")


def score_of(graded: Graded) -> Score:
    """The score of the samples that are there, one at least."""
    samples, grades = graded.samples, [graded.grades.get(key, UNGRADED) for key in graded.samples]
    correct_PR = graded.correct_PR()
    mean_P = _means(correct_PR)
    tokens = sum(sample.tokens for sample in samples.values())
    markers = {key: float(count_substrings([sample.text]).total()) for key, sample in samples.items()}
    markers_P = _means(graded.by_problem(markers))
    return Score(
        candidate=graded.candidate,
        benchmark=graded.benchmark,
        problems=len(graded.asked.questions),
        runs=graded.asked.runs,
        samples=len(samples),
        accuracy=float(mean_P.mean()) if len(mean_P) else 0.0,
        standard_error=_standard_error(mean_P),
        truncation_rate=_share([not sample.ended for sample in samples.values()]),
        no_box_rate=_share([grade.reason == "no box" for grade in grades]),
        ungraded_rate=_share([grade.verdict == "ungraded" for grade in grades]),
        mean_tokens=tokens / len(samples),
        markers=sum(markers.values()) / len(samples),
        markers_standard_error=_standard_error(markers_P),
        markers_per_1000_tokens=1000 * sum(markers.values()) / max(tokens, 1),
    )


def _graded(folder: Path, asked: Asked) -> Graded:
    here = SampleFolder(folder)
    questions = set(asked.questions)
    samples = {(run, id): sample for (run, id), sample in here.samples().items() if run < asked.runs and id in questions}
    grades = {key: grade for key, grade in here.grades().items() if key in samples}
    return Graded(folder.name, folder.parent.name, asked, samples, grades)


def _means(correct_PR: np.ndarray) -> np.ndarray:
    """The mean of each problem that has a sample."""
    some_P = ~np.isnan(correct_PR).all(axis=1)
    return np.nanmean(correct_PR[some_P], axis=1)


def _standard_error(mean_P: np.ndarray) -> float | None:
    return float(mean_P.std(ddof=1) / np.sqrt(len(mean_P))) if len(mean_P) > 1 else None


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)
