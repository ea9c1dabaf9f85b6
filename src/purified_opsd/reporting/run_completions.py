"""The completions that a run's evaluation and diagnosis hold, read one after another."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from purified_opsd.evaluation import sample_store
from purified_opsd.storage.completions import FinishReason
from purified_opsd.storage.completions import read_completions as read_rows
from purified_opsd.storage.run_dir import step_of

EVALUATION, DIAGNOSIS = "evaluation", "diagnosis"
SOURCES = (EVALUATION, DIAGNOSIS)


@dataclass(frozen=True)
class ReportedCompletion:
    """One completion of a candidate."""

    step: int
    """0: the base."""
    benchmark: str
    """Empty in a diagnosis."""
    id: str
    """Of the question."""
    run: int
    text: str
    tokens: int
    finish_reason: FinishReason
    verdict: str
    """Of its answer; empty where none was given."""


def read_completions(run: Path, source: str) -> Iterator[ReportedCompletion]:
    """The completions of an evaluation, as far as they were last requested, or of a diagnosis;
    none where there was neither.
    """
    return _evaluated(run / EVALUATION) if source == EVALUATION else _diagnosed(run / DIAGNOSIS)


def read_problems(run: Path) -> dict[tuple[str, str], str]:
    """The evaluation's questions by benchmark and id, as far as the run directory holds them."""
    return sample_store.read_problems(run / EVALUATION)


def requested_completions(run: Path) -> dict[int, int]:
    """How many completions the evaluation was last asked for, by step; empty without one."""
    counts: Counter[int] = Counter()
    for benchmark, request in sample_store.requested_benchmarks(run / EVALUATION).items():
        for samples in sample_store.sample_folders(benchmark):
            counts[step_of(samples.folder.name)] += request.completions
    return dict(sorted(counts.items()))


def requested_markers(run: Path) -> list[str]:
    """The markers that the evaluation was last asked to count beside Kim et al.'s."""
    requests = sample_store.requested_benchmarks(run / EVALUATION).values()
    return [word for request in requests for word in request.markers]


def _evaluated(folder: Path) -> Iterator[ReportedCompletion]:
    """One base or checkpoint is in memory at a time."""
    for benchmark, request in sample_store.requested_benchmarks(folder).items():
        questions = set(request.questions)
        for samples in sample_store.sample_folders(benchmark):
            stored = samples.read()
            step = step_of(samples.folder.name)
            for key, sample in stored.samples.items():
                if sample.id in questions and sample.run < request.runs:
                    grade = stored.grades.get(key)
                    yield ReportedCompletion(
                        step,
                        benchmark.name,
                        sample.id,
                        sample.run,
                        sample.text,
                        sample.tokens,
                        sample.finish_reason,
                        grade.verdict if grade else "",
                    )


def _diagnosed(folder: Path) -> Iterator[ReportedCompletion]:
    for file in sorted(folder.glob("*.jsonl"), key=lambda file: step_of(file.stem)):
        for row in read_rows(file):
            tokens = len(row.completion_ids)
            yield ReportedCompletion(
                step_of(file.stem), "", row.id, 0, row.text, tokens, row.finish_reason, ""
            )
