"""The samples of an evaluation, as files that survive whatever happens to the process.

BENCHMARK/request.json              which questions and how many runs were last requested
BENCHMARK/problems.json             the questions themselves, by id
BENCHMARK/CANDIDATE/settings.json   what every sample here was generated with; samples of another
                                    candidate, set or setting are refused
BENCHMARK/CANDIDATE/samples.jsonl   one completion a line, appended as it is generated
BENCHMARK/CANDIDATE/grades.jsonl    one grade a line, made from the samples; can be made again
                                    without generating anything
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from purified_opsd.errors import RunError
from purified_opsd.evaluation.grading.graders import Grade
from purified_opsd.storage.completions import CompletionRow, FinishReason, read_completions
from purified_opsd.storage.files import json_line, read_json, read_jsonl, write_atomic

_REMEDY = "Delete that line: what it held is then made again."
_GRADE_FIELDS = ("run", "id", "verdict", "reason", "answer")

_BLOCK = 2**16
"""The bytes that are read at once in search of the last finished line."""

SampleKey = tuple[int, str]
"""The number of the run and the id of the problem, which together name a sample."""


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
    def key(self) -> SampleKey:
        return self.run, self.id


def sample_of(row: CompletionRow) -> Sample:
    """The sample that a line of samples.jsonl holds."""
    ids = row.completion_ids
    digest = sha256(repr(ids).encode()).hexdigest()[:16]
    return Sample(
        row.id, row.extras["run"], row.seed, len(ids), row.finish_reason, row.text, digest
    )


@dataclass(frozen=True)
class BenchmarkRequest:
    """What was last requested on a benchmark; a result that lacks some of it is PARTIAL."""

    questions: list[str]
    """The ids of the questions."""
    runs: int
    benchmark: dict[str, Any]
    """The benchmark's record: where the questions come from."""
    markers: Sequence[str] = ()
    """Markers that are counted beside Kim et al.'s."""

    @property
    def completions(self) -> int:
        """How many completions were requested of each candidate."""
        return len(self.questions) * self.runs


def write_request(folder: Path, request: BenchmarkRequest, problems: Mapping[str, str]) -> None:
    """Writes what is requested on the benchmark of a folder, and the texts of its questions by id
    for those who read the samples.
    """
    replace_request(folder, request)
    _write_json(folder / "problems.json", problems)


def replace_request(folder: Path, request: BenchmarkRequest) -> None:
    """Writes what is requested of questions whose texts are there already."""
    _write_json(folder / "request.json", asdict(request))


def requested_benchmarks(folder: Path) -> dict[Path, BenchmarkRequest]:
    """What was last requested on each benchmark of an evaluation, by the benchmark's folder; empty
    where `folder` holds no evaluation.  Raises RunError where a file is damaged.
    """
    return {file.parent: _read_request(file) for file in sorted(folder.glob("*/request.json"))}


def read_problems(folder: Path) -> dict[tuple[str, str], str]:
    """The texts of an evaluation's questions, by benchmark and id."""
    texts = {}
    for file in sorted(folder.glob("*/problems.json")):
        for id, text in read_json(file).items():
            texts[file.parent.name, id] = text
    return texts


def _read_request(file: Path) -> BenchmarkRequest:
    try:
        return BenchmarkRequest(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunError(
            f"{file} is damaged ({error}), so what is pending is not known. Evaluate "
            f"{file.parent.name} again: that writes it anew."
        ) from error


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    write_atomic(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


class StoredSamples(NamedTuple):
    """The samples of one candidate on one benchmark, and the grades of those that are graded."""

    samples: dict[SampleKey, Sample]
    grades: dict[SampleKey, Grade]


class SampleFolder:
    """Reads and appends the samples and grades of one candidate on one benchmark."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._samples = folder / "samples.jsonl"
        self._grades = folder / "grades.jsonl"
        self._settings = folder / "settings.json"

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Makes the folder for samples of these settings, which are fixed from the first sample
        on.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.has_samples:
            _write_json(self._settings, settings)

    def read(self) -> StoredSamples:
        """Reads everything, each file once.  Raises RunError where a line is damaged."""
        sample_rows = read_completions(self._samples, "run", remedy=_REMEDY)
        grade_rows = read_jsonl(self._grades, *_GRADE_FIELDS, remedy=_REMEDY)
        samples = {sample.key: sample for sample in map(sample_of, sample_rows)}
        return StoredSamples(samples, dict(map(_read_grade, grade_rows)))

    @property
    def has_samples(self) -> bool:
        return self._samples.exists() and self._samples.stat().st_size > 0

    def settings(self) -> dict[str, Any]:
        """What the samples were generated with.  Raises RunError where the file is damaged."""
        try:
            return dict(json.loads(self._settings.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise RunError(
                f"{self._settings} is damaged ({error}), so what the samples beside it were drawn "
                f"with is not known. Remove {self.folder}: they are then drawn again."
            ) from error

    def replace_setting(self, name: str, value: Any) -> None:
        _write_json(self._settings, {**self.settings(), name: value})

    def append(self, rows: Iterable[CompletionRow]) -> None:
        """Adds samples; once it returns they are on the disk."""
        _append(self._samples, [row.to_json() for row in rows])

    def append_grades(self, grades: Mapping[SampleKey, Grade]) -> None:
        _append(self._grades, map(_grade_row, grades.items()))

    def replace_grades(self, grades: Mapping[SampleKey, Grade]) -> None:
        """Replaces all grades; those from before stay where the process dies on the way."""
        lines = [json_line(_grade_row(item)) for item in grades.items()]
        write_atomic(self._grades, "".join(lines))


def sample_folders(folder: Path) -> list[SampleFolder]:
    """The folder of every candidate on a benchmark, by name."""
    return [SampleFolder(file.parent) for file in sorted(folder.glob("*/settings.json"))]


def _grade_row(item: tuple[SampleKey, Grade]) -> dict[str, Any]:
    (run, id), grade = item
    return {"id": id, "run": run, **asdict(grade)}


def _read_grade(row: Mapping[str, Any]) -> tuple[SampleKey, Grade]:
    return (row["run"], row["id"]), Grade(row["verdict"], row["reason"], row["answer"])


def _append(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds lines after the last finished one."""
    text = "".join(map(json_line, rows))
    try:
        with file.open("ab+") as out:
            _cut_unfinished_line(out)
            out.write(text.encode())
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:  # the error of a full disk names no file
        error.filename = str(file)
        raise


def _cut_unfinished_line(stream: BinaryIO) -> None:
    """Cuts off what follows the last line break of a file, as a killed process leaves it."""
    size = stream.seek(0, os.SEEK_END)
    finished = size
    newline = -1
    while finished > 0 and newline < 0:
        start = max(0, finished - _BLOCK)
        stream.seek(start)
        newline = stream.read(finished - start).rfind(b"\n")
        finished = start + newline + 1
    if finished < size:
        stream.truncate(finished)
