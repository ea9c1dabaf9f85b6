"""The completions that a run directory holds, wherever they were sampled, one after another as they
are read.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from purified_opsd.storage.files import read_json, read_jsonl
from purified_opsd.storage.run_dir import step_of

EVALUATION, DIAGNOSIS = "evaluation", "diagnosis"
SOURCES = (EVALUATION, DIAGNOSIS)


@dataclass(frozen=True)
class Written:
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
    ended: bool
    verdict: str
    """Of its answer; empty where none was given."""


def written(run: Path, source: str) -> Iterator[Written]:
    """What an evaluation, of all that was last asked, or a diagnosis has of completions; nothing
    where there was none.
    """
    return _evaluated(run / EVALUATION) if source == EVALUATION else _diagnosed(run / DIAGNOSIS)


def problems(run: Path) -> dict[tuple[str, str], str]:
    """The questions of the evaluation by benchmark and id, as far as the run directory holds them."""
    files = (run / EVALUATION).glob("*/problems.json")
    return {(file.parent.name, id): text for file in files for id, text in read_json(file).items()}


def asked(run: Path) -> dict[int, int]:
    """By step: how many completions the evaluation was last asked for; empty where there was none."""
    found: Counter[int] = Counter()
    for file in (run / EVALUATION).glob("*/request.json"):
        each = read_json(file, "questions", "runs")
        candidates = (settings.parent.name for settings in file.parent.glob("*/settings.json"))
        found.update({step_of(name): len(each["questions"]) * each["runs"] for name in candidates})
    return dict(sorted(found.items()))


def asked_markers(run: Path) -> list[str]:
    """The markers of one's own that the evaluation was last asked to count."""
    return [
        word
        for file in (run / EVALUATION).glob("*/request.json")
        for word in read_json(file).get("markers", ())
    ]


def _evaluated(folder: Path) -> Iterator[Written]:
    for file in sorted(folder.glob("*/request.json")):
        asked = read_json(file, "questions", "runs")
        questions = set(asked["questions"])
        for samples in sorted(file.parent.glob("*/samples.jsonl")):
            graded = read_jsonl(samples.with_name("grades.jsonl"), "run", "id", "verdict")
            grades = {(row["run"], row["id"]): row["verdict"] for row in graded}
            step = step_of(samples.parent.name)
            for row in read_jsonl(samples, "id", "run", "text", "tokens", "finish"):
                if row["id"] in questions and row["run"] < asked["runs"]:
                    verdict = grades.get((row["run"], row["id"]), "")
                    yield _sample(row, step, file.parent.name, verdict)


def _sample(row: dict[str, Any], step: int, benchmark: str, verdict: str) -> Written:
    return Written(
        step,
        benchmark,
        row["id"],
        row["run"],
        row["text"],
        row["tokens"],
        row["finish"] == "stop",
        verdict,
    )


def _diagnosed(folder: Path) -> Iterator[Written]:
    for file in [*folder.glob("base.jsonl"), *sorted(folder.glob("step-*.jsonl"))]:
        for row in read_jsonl(file, "id", "text", "completion_ids", "ended"):
            yield Written(
                step_of(file.stem),
                "",
                row["id"],
                0,
                row["text"],
                len(row["completion_ids"]),
                row["ended"],
                "",
            )
