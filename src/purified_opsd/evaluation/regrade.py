"""Grades made again from the samples that are there: no completion is drawn."""

from collections import Counter
from pathlib import Path

from purified_opsd.errors import DataError, RunError
from purified_opsd.evaluation.grading.graders import grade_all
from purified_opsd.storage.files import locked

from .benchmarks import Benchmark, reload_benchmark
from .comparison import write_results
from .sample_store import Key, SampleFolder, read_request
from .summary import write_table


def regrade(folder: Path) -> Counter[tuple[str, str]]:
    """Grades every sample of an evaluation anew, with the answers of its benchmarks as they are
    today.

    Returns how many went from one verdict to another, by both.  Raises RunError where the folder
    holds no evaluation, DataError where a benchmark is not there any more or lacks a question that
    was asked.
    """
    asked = {file.parent: read_request(file.parent) for file in sorted(folder.glob("*/asked.json"))}
    if not asked:
        raise RunError(
            f"{folder} holds no evaluation. Give the folder that `purified-opsd evaluate` wrote."
        )
    benchmarks = {place: reload_benchmark(record.benchmark) for place, record in asked.items()}
    changes: Counter[tuple[str, str]] = Counter()
    with locked(folder):
        for place, benchmark in benchmarks.items():
            for settings in sorted(place.glob("*/settings.json")):
                changes += _regrade(SampleFolder(settings.parent), benchmark)
        write_results(folder)
        write_table(folder)
    return changes


def _regrade(folder: SampleFolder, benchmark: Benchmark) -> Counter[tuple[str, str]]:
    questions = {question.id: question for question in benchmark.questions}
    samples, before = folder.samples(), folder.grades()
    missing = sorted({id for _, id in samples} - questions.keys())
    if missing:
        raise DataError(
            f"{benchmark.name} has no question {missing[0]}, to which {folder.folder} holds "
            "completions: it is another set."
        )
    attempts = [
        (questions[id].problem, questions[id].answer, sample.text)
        for (_, id), sample in samples.items()
    ]
    grades = dict(zip(samples, grade_all(benchmark.grader, attempts), strict=True))
    folder.replace_grades(grades)
    folder.replace_setting("answers", benchmark.answers)
    return Counter(
        (_verdict(before, key), grades[key].verdict)
        for key in grades
        if _verdict(before, key) != grades[key].verdict
    )


def _verdict(grades: dict, key: Key) -> str:
    return grades[key].verdict if key in grades else "not graded yet"
