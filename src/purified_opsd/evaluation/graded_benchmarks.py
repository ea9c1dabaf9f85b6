"""Several benchmarks, those by path or hub id with a grader of the user's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from purified_opsd.errors import SettingsError
from purified_opsd.evaluation.grading.custom_grader import CustomGrader, load_grader

from .benchmarks import AnswerColumns, Benchmark, load_benchmark, reload_benchmark


def load_benchmarks(
    names: Sequence[str], columns: AnswerColumns | None = None, grader: str | None = None
) -> list[Benchmark]:
    """The benchmarks of these names, as `load_benchmark` takes them, with the grader at a Python
    path where one is given.

    Raises DataError as `load_benchmark` does, and SettingsError where the grader cannot be used.
    """
    own = load_grader(grader) if grader else None
    benchmarks = [load_benchmark(name, columns, own) for name in names]
    _refuse_unused(own, benchmarks)
    return benchmarks


def reload_benchmarks(
    records: Mapping[Path, Mapping[str, Any]], grader: str | None = None
) -> dict[Path, Benchmark]:
    """The benchmarks of an evaluation's records, by its folders, as they are today; with another
    grader than they had where one is given.

    Raises DataError as `reload_benchmark` does, and SettingsError where the grader cannot be used.
    """
    own = load_grader(grader) if grader else None
    benchmarks = {folder: reload_benchmark(record, own) for folder, record in records.items()}
    _refuse_unused(own, list(benchmarks.values()))
    return benchmarks


def _refuse_unused(own: CustomGrader | None, benchmarks: Sequence[Benchmark]) -> None:
    """Raises SettingsError where the user's grader would grade nothing."""
    if own and all(benchmark.grader is not own for benchmark in benchmarks):
        names = ", ".join(benchmark.name for benchmark in benchmarks)
        raise SettingsError(
            f"The grader {own.path} would grade nothing: {names} has a grader of its own, so that "
            "its numbers compare with others'. Leave --grader out, or give a set by its path or "
            "hub id: --benchmarks FILE."
        )
