"""Grades made again from the samples of an evaluation: nothing is sampled."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from purified_opsd.errors import DataError, RunError
from purified_opsd.evaluation.grading.graders import Grade, grade_all
from purified_opsd.storage.files import locked

from .benchmarks import Benchmark
from .graded_benchmarks import reload_benchmarks
from .results import Results, select_requested
from .sample_store import (
    SampleFolder,
    SampleKey,
    StoredSamples,
    replace_request,
    requested_benchmarks,
    sample_folders,
)
from .summary import write_summary

Changes = Counter[tuple[str, str]]
"""How many grades went from one verdict to another, by both."""


class Regraded(NamedTuple):
    """What became of an evaluation that was graded again."""

    changes: Changes
    results: Results


def regrade(folder: Path, grader: str | None = None) -> Regraded:
    """Grades every sample of an evaluation anew, with the answers of its benchmarks as they are
    today; those by path or hub id by the grader at a Python path, where one is given.

    Raises RunError where the folder holds no evaluation, DataError where a benchmark is not there
    any more or lacks a question that was requested, and SettingsError where the grader cannot be
    used.
    """
    requests = requested_benchmarks(folder)
    if not requests:
        raise RunError(
            f"{folder} holds no evaluation. Give the folder that `purified-opsd evaluate` wrote."
        )
    records = {path: request.benchmark for path, request in requests.items()}
    benchmarks = reload_benchmarks(records, grader)
    changes: Changes = Counter()
    graded = []
    with locked(folder):
        for path, asked in requests.items():
            request = replace(asked, benchmark=dict(benchmarks[path].record))
            for samples in sample_folders(path):
                before = samples.read()
                after = _regrade(samples, before, benchmarks[path])
                changes += _changes(before.grades, after.grades)
                candidate, settings = samples.folder.name, samples.settings()
                graded.append(select_requested(candidate, path.name, settings, request, after))
            if grader:
                replace_request(path, request)
        results = Results(graded)
        write_summary(folder, results)
    return Regraded(changes, results)


def _regrade(folder: SampleFolder, stored: StoredSamples, benchmark: Benchmark) -> StoredSamples:
    """Writes new grades of all stored samples, and returns both."""
    questions = {question.id: question for question in benchmark.questions}
    missing = sorted({id for _, id in stored.samples} - questions.keys())
    if missing:
        raise DataError(
            f"{benchmark.name} has no question {missing[0]}, to which {folder.folder} holds "
            "completions: it is another set."
        )
    attempts = [
        (questions[id].problem, questions[id].answer, sample.text)
        for (_, id), sample in stored.samples.items()
    ]
    grades = dict(zip(stored.samples, grade_all(benchmark.grader, attempts), strict=True))
    folder.replace_grades(grades)
    folder.replace_setting("answers", benchmark.answers)
    folder.replace_setting("grader", benchmark.record.get("grader"))
    return StoredSamples(stored.samples, grades)


def _changes(before: Mapping[SampleKey, Grade], after: Mapping[SampleKey, Grade]) -> Changes:
    changes: Changes = Counter()
    for key, grade in after.items():
        verdict = before[key].verdict if key in before else "not graded yet"
        if verdict != grade.verdict:
            changes[verdict, grade.verdict] += 1
    return changes
