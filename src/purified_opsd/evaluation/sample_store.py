"""The samples of an evaluation, as files that survive whatever happens to the process.

BENCHMARK/asked.json                which questions and how many runs were last asked for
BENCHMARK/problems.json             the questions themselves, by id
BENCHMARK/CANDIDATE/settings.json   what every sample here was drawn with; another candidate, set or
setting does not get in BENCHMARK/CANDIDATE/samples.jsonl   one completion a line, appended as it is
drawn BENCHMARK/CANDIDATE/grades.jsonl    one grade a line, made from the samples; can be made again
without drawing
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from purified_opsd.errors import RunError
from purified_opsd.evaluation.grading.graders import Grade
from purified_opsd.storage.completions import CompletionRow, FinishReason, read_completions
from purified_opsd.storage.files import json_line, read_jsonl, write_atomic

GRADE_FIELDS = ("id", "run", "verdict", "reason", "answer")
REMEDY = "Delete that line: what it held is then made again."

Key = tuple[int, str]
"""Run and problem: what names a sample."""


@dataclass(frozen=True)
class Sample:
    """One completion to one problem, without its token ids, which stay in the file."""

    id: str
    run: int
    seed: int | None
    tokens: int
    """The one that ended it included."""
    finish_reason: FinishReason
    text: str
    digest: str
    """Identifies its token ids."""

    @property
    def key(self) -> Key:
        return self.run, self.id


def sample_of(row: CompletionRow) -> Sample:
    """The sample that a line of samples.jsonl holds."""
    ids = row.completion_ids
    digest = sha256(repr(ids).encode()).hexdigest()[:16]
    return Sample(
        row.id, row.extras["run"], row.seed, len(ids), row.finish_reason, row.text, digest
    )


@dataclass(frozen=True)
class EvaluationRequest:
    """What was last asked on a benchmark: what is missing from it makes a result PARTIAL."""

    questions: list[str]
    runs: int
    benchmark: dict[str, Any]
    """Its record: where the questions come from."""
    markers: Sequence[str] = ()
    """That are counted beside Kim et al.'s."""


def write_request(folder: Path, asked: EvaluationRequest) -> None:
    write_atomic(
        folder / "asked.json", json.dumps(asdict(asked), indent=2, ensure_ascii=False) + "\n"
    )


def write_problems(folder: Path, problems: Mapping[str, str]) -> None:
    """The questions that were last asked, for those who read the samples."""
    write_atomic(
        folder / "problems.json", json.dumps(problems, indent=2, ensure_ascii=False) + "\n"
    )


def read_request(folder: Path) -> EvaluationRequest:
    """Raises RunError where the file is damaged."""
    file = folder / "asked.json"
    try:
        return EvaluationRequest(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunError(
            f"{file} is damaged ({error}), so what is owed is not known. Evaluate {folder.name} "
            "again: that writes it anew."
        ) from error


class SampleFolder:
    """Reads and appends the samples and grades of one candidate on one benchmark."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._samples, self._grades, self._settings = (
            folder / name for name in ("samples.jsonl", "grades.jsonl", "settings.json")
        )

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Opens the folder for these settings, which count from the first sample on, and mends a
        line that was never finished.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.drawn:
            write_atomic(self._settings, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        for file in (self._samples, self._grades):
            _mend(file)

    @property
    def drawn(self) -> bool:
        """Does it hold samples?"""
        return self._samples.exists() and self._samples.stat().st_size > 0

    def replace_setting(self, name: str, value: Any) -> None:
        text = json.dumps({**self.settings(), name: value}, indent=2, ensure_ascii=False)
        write_atomic(self._settings, text + "\n")

    def settings(self) -> dict[str, Any]:
        """Raises RunError where the file is damaged."""
        try:
            return dict(json.loads(self._settings.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise RunError(
                f"{self._settings} is damaged ({error}), so what the samples beside it were drawn "
                f"with is not known. Remove {self.folder}: they are then drawn again."
            ) from error

    def samples(self) -> dict[Key, Sample]:
        rows = read_completions(self._samples, "run", remedy=REMEDY)
        return {sample.key: sample for sample in map(sample_of, rows)}

    def append(self, rows: Iterable[CompletionRow]) -> None:
        """Adds samples; once it returns they are on the disk."""
        _append(self._samples, [row.to_json() for row in rows])

    def grades(self) -> dict[Key, Grade]:
        rows = read_jsonl(self._grades, *GRADE_FIELDS, remedy=REMEDY)
        return dict(map(_read_grade, rows))

    def append_grades(self, grades: Mapping[Key, Grade]) -> None:
        _append(self._grades, map(_grade_row, grades.items()))

    def replace_grades(self, grades: Mapping[Key, Grade]) -> None:
        """All grades anew, or, whenever the process dies, those from before."""
        write_atomic(self._grades, "".join(json_line(_grade_row(item)) for item in grades.items()))


def _grade_row(item: tuple[Key, Grade]) -> dict[str, Any]:
    (run, id), grade = item
    return {"id": id, "run": run, **asdict(grade)}


def _read_grade(row: Mapping[str, Any]) -> tuple[Key, Grade]:
    return (row["run"], row["id"]), Grade(row["verdict"], row["reason"], row["answer"])


def _append(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    try:
        with file.open("a", encoding="utf-8") as out:
            out.write("".join(map(json_line, rows)))
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:  # a full disk names no file
        error.filename = str(file)
        raise


def _mend(file: Path) -> None:
    """Cuts off a last line that was never finished."""
    if not file.exists():
        return
    with file.open("rb+") as stream:
        whole = 0
        for line in stream:
            whole += len(line) if line.endswith(b"\n") else 0
        stream.truncate(whole)
