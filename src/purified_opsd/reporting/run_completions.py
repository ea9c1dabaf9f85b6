"""The completions that a run's evaluation and diagnosis hold, read one after another."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from purified_opsd.storage.completions import CompletionRow, FinishReason
from purified_opsd.storage.completions import read_completions as read_rows
from purified_opsd.storage.files import read_json, read_jsonl
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
    """What an evaluation, of all that was last asked, or a diagnosis has of completions; nothing
    where there was none.
    """
    return _evaluated(run / EVALUATION) if source == EVALUATION else _diagnosed(run / DIAGNOSIS)


def read_problems(run: Path) -> dict[tuple[str, str], str]:
    """The evaluation's questions by benchmark and id, as far as the run directory holds them."""
    files = (run / EVALUATION).glob("*/problems.json")
    return {(file.parent.name, id): text for file in files for id, text in read_json(file).items()}


def requested_completions(run: Path) -> dict[int, int]:
    """How many completions the evaluation was last asked for, by step; empty without one."""
    counts: Counter[int] = Counter()
    for file in (run / EVALUATION).glob("*/asked.json"):
        request = read_json(file, "questions", "runs")
        completions = len(request["questions"]) * request["runs"]
        for settings in file.parent.glob("*/settings.json"):
            counts[step_of(settings.parent.name)] += completions
    return dict(sorted(counts.items()))


def requested_markers(run: Path) -> list[str]:
    """The markers that the evaluation was last asked to count beside Kim et al.'s."""
    return [
        word
        for file in (run / EVALUATION).glob("*/asked.json")
        for word in read_json(file).get("markers", ())
    ]


def _evaluated(folder: Path) -> Iterator[ReportedCompletion]:
    for file in sorted(folder.glob("*/asked.json")):
        asked = read_json(file, "questions", "runs")
        questions = set(asked["questions"])
        for samples in sorted(file.parent.glob("*/samples.jsonl")):
            graded = read_jsonl(samples.with_name("grades.jsonl"), "run", "id", "verdict")
            grades = {(row["run"], row["id"]): row["verdict"] for row in graded}
            step = step_of(samples.parent.name)
            for row in read_rows(samples, "run"):
                run = row.extras["run"]
                if row.id in questions and run < asked["runs"]:
                    verdict = grades.get((run, row.id), "")
                    yield _reported(row, step, file.parent.name, run, verdict)


def _diagnosed(folder: Path) -> Iterator[ReportedCompletion]:
    for file in [*folder.glob("base.jsonl"), *sorted(folder.glob("step-*.jsonl"))]:
        for row in read_rows(file):
            yield _reported(row, step_of(file.stem), "", 0, "")


def _reported(
    row: CompletionRow, step: int, benchmark: str, run: int, verdict: str
) -> ReportedCompletion:
    tokens = len(row.completion_ids)
    return ReportedCompletion(
        step, benchmark, row.id, run, row.text, tokens, row.finish_reason, verdict
    )
