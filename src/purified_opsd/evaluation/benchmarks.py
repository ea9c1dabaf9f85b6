"""Benchmarks: questions with certain answers, and the grader that goes with them.

The three of the paper by name, the miniature's held-out questions, and any file or hub data set by
its path.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from purified_opsd.data.readers import SUFFIXES, Row, read_rows, text_of
from purified_opsd.errors import DataError
from purified_opsd.evaluation.grading.graders import CountdownGrader, Grader, MathGrader
from purified_opsd.miniature.rows import draw_rows
from purified_opsd.miniature.task import Split, problems


@dataclass(frozen=True)
class AnswerColumns:
    """The columns of a benchmark.  Rows without an `id` are numbered."""

    problem: str = "problem"
    """The question."""
    answer: str = "answer"
    """The final answer, which completions are graded by."""
    id: str = "id"
    """What a row is known by; each once."""


@dataclass(frozen=True)
class Source:
    """Where the rows of a benchmark come from, and what they must be."""

    path: str
    """A JSONL, JSON or Parquet file, a folder of them, or a hub data set id."""
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: AnswerColumns = AnswerColumns()
    rows: int | None = None
    """The number of rows that there must be; null: any number."""
    answers: str | None = None
    """The digest that `digest_of` must give of the answers, so that neither a row nor an answer
    changes unseen; null: any.
    """


SOURCES: Mapping[str, Source] = {
    "aime24": Source("HuggingFaceH4/aime_2024", rows=30, answers="591d3824f22a93e7"),
    "aime25": Source("yentinglin/aime_2025", rows=30, answers="d361f8a4e377d298"),
    "hmmt25": Source(
        "MathArena/hmmt_feb_2025",
        columns=AnswerColumns(id="problem_idx"),
        rows=30,
        answers="bdd0b1ad5cdf84b5",
    ),
}
"""The paper's three, graded as mathematics."""

COUNTDOWN = "countdown"
"""The miniature's questions that neither its base nor a distilled student has seen."""


@dataclass(frozen=True)
class Question:
    """One question with its gold answer; `where` names its file and row."""

    id: str
    problem: str
    answer: str
    where: str


@dataclass(frozen=True)
class Benchmark:
    """Questions, how an answer to one is graded, and the record of where they come from."""

    name: str
    questions: tuple[Question, ...]
    grader: Grader
    record: Mapping[str, Any]
    """Where the questions come from."""
    fingerprint: str
    """sha256 of every id and problem of the whole set, in order."""
    answers: str
    """The digest of the answers."""

    @property
    def problems(self) -> dict[str, str]:
        """The texts of the questions, by id."""
        return {question.id: question.problem for question in self.questions}

    def first(self, limit: int | None) -> "Benchmark":
        """The same benchmark with its first `limit` questions only."""
        return replace(self, questions=self.questions[:limit])


def load_benchmark(name: str, columns: AnswerColumns | None = None) -> Benchmark:
    """A benchmark by name (`aime25`, or `aime25@REVISION` of its hub data set), by path
    (`problems.jsonl`), by hub id (`org/set:SPLIT@REVISION`, split and revision as needed), or a
    named one read from a path (`aime25=aime.jsonl`).

    `columns` are those of a set by path or hub id; named ones have their own.  Raises DataError
    where there is none of that name, or a row lacks its problem or answer, naming each as file:row.
    """
    if name == COUNTDOWN:
        return countdown()
    name = located_benchmark(name)
    columns = columns or AnswerColumns()
    path = Path(name).expanduser()
    if path.exists():
        return _load(path.stem, name, Source(name, columns=columns))
    known, equals, file = name.partition("=")
    if equals:
        return _load_known_from(known, file, name)
    known, _, revision = name.partition("@")
    if known in SOURCES:
        return _load(known, name, replace(SOURCES[known], revision=revision or None))
    hub = _HUB.fullmatch(name)
    if not hub or path.suffix in SUFFIXES:
        raise DataError(_no_such_benchmark(name))
    source = Source(
        hub["id"], split=hub["split"] or "train", revision=hub["revision"], columns=columns
    )
    parts = hub["id"].split("/")
    if hub["split"]:
        parts.append(hub["split"])
    return _load("--".join(parts), name, source)


_HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?::(?P<split>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?")


def _load_known_from(known: str, file: str, spec: str) -> Benchmark:
    """A named benchmark, read from a file."""
    if known not in SOURCES:
        raise DataError(
            f"There is no benchmark '{known}' to be read from {file}. NAME=FILE is for "
            f"{', '.join(SOURCES)}, whose columns are known; a set of your own goes by its "
            f"path alone: {file}."
        )
    return _load(known, spec, replace(SOURCES[known], path=file))


def _no_such_benchmark(name: str) -> str:
    names = [*SOURCES, COUNTDOWN]
    near = difflib.get_close_matches(name, names, 1)
    hint = f". Did you mean {near[0]}?" if near else " and no file of that name."
    return (
        f"There is no benchmark '{name}'{hint} Named ones: {', '.join(names)}; or give a .jsonl, "
        ".json or .parquet file, or a hub id (org/name, org/name:split, org/name@revision)."
    )


def reload_benchmark(record: Mapping[str, Any]) -> Benchmark:
    """The benchmark of a record, with its answers as they are today.  Raises DataError where it is
    not there any more.
    """
    columns = record.get("columns")
    return load_benchmark(record["spec"], AnswerColumns(**columns) if columns else None)


def countdown() -> Benchmark:
    """Every question of the miniature's evaluation split, in an order drawn once."""
    count = len(problems(Split.EVALUATION))
    questions = [
        Question(row["id"], row["problem"], row["answer"], f"{COUNTDOWN}:{number}")
        for number, row in enumerate(draw_rows(Split.EVALUATION, seed=0, count=count), 1)
    ]
    return _benchmark(COUNTDOWN, questions, CountdownGrader(), {"spec": COUNTDOWN})


def digest_of(answers: Iterable[str]) -> str:
    """Identifies a set by its answers in order; leading zeros and spaces, in which copies of a set
    differ, do not count.
    """
    plain = ["".join(answer.split()).lstrip("0") or "0" for answer in answers]
    return sha256(json.dumps(plain).encode()).hexdigest()[:16]


def located_benchmark(name: str) -> str:
    """The name with its path made absolute where a file is there, so that the file is found again
    from anywhere.
    """
    known, equals, path = name.rpartition("=")
    file = Path(path).expanduser()
    return f"{known}{equals}{file.absolute()}" if file.exists() else name


def _load(name: str, spec: str, source: Source) -> Benchmark:
    """Reads a benchmark and checks that it is the set it should be.  `spec` is what the user named
    it by.
    """
    rows = read_rows(source.path, source.config, source.split, source.revision)
    questions = _read_questions(rows, source.columns)
    if source.rows is not None and len(questions) != source.rows:
        raise DataError(
            f"{name} has {source.rows} questions, but {source.path} has {len(questions)} rows: it "
            "is another set, or a part of one. Give it as a benchmark of its own: --benchmarks "
            f"{source.path}."
        )
    digest = digest_of(question.answer for question in questions)
    if source.answers is not None and digest != source.answers:
        raise DataError(
            f"The answers in {source.path} are not those of {name} (their digest is {digest}, not "
            f"{source.answers}): results would not compare with others on {name}. Give it as a "
            f"benchmark of its own: --benchmarks {source.path}."
        )
    return _benchmark(name, questions, MathGrader(), {"spec": spec, **asdict(source)})


def _benchmark(
    name: str, questions: Sequence[Question], grader: Grader, record: Mapping[str, Any]
) -> Benchmark:
    content = json.dumps([[question.id, question.problem] for question in questions])
    fingerprint = sha256(content.encode()).hexdigest()
    answers = digest_of(question.answer for question in questions)
    return Benchmark(name, tuple(questions), grader, record, fingerprint, answers)


def _read_questions(rows: Iterable[Row], columns: AnswerColumns) -> list[Question]:
    """Every row as a question.  Raises DataError that names the bad ones, the first five."""
    questions: dict[str, Question] = {}
    bad: list[str] = []
    for number, row in enumerate(rows, 1):
        try:
            question = _question(row, number, columns)
            if question.id in questions:
                before = questions[question.id].where
                raise ValueError(f"its id '{question.id}' already stands at {before}")
            questions[question.id] = question
        except ValueError as problem:
            bad.append(f"{row.where}: {problem}.")
    if bad:
        more = f"\nand {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DataError(
            "The benchmark has rows that cannot be asked or graded:\n" + "\n".join(bad[:5]) + more
        )
    if not questions:
        raise DataError(
            "The benchmark has no rows. Give a file with one JSON object a line, holding a problem "
            "and its answer."
        )
    return list(questions.values())


def _question(row: Row, number: int, columns: AnswerColumns) -> Question:
    """Raises ValueError where the row lacks its problem or answer."""
    if isinstance(row.value, ValueError):
        raise row.value
    if not isinstance(row.value, dict):
        raise ValueError(
            f"it is a {type(row.value).__name__}, not an object with a problem and an answer"
        )
    values = dict(row.value)
    answer = values.get(columns.answer)
    if isinstance(answer, int) and not isinstance(answer, bool):
        values[columns.answer] = str(answer)
    problem = _text(row.value, columns.problem, "problem")
    answer = _text(values, columns.answer, "answer")
    id = row.value.get(columns.id, f"row-{number}")
    if isinstance(id, bool) or not isinstance(id, str | int):
        raise ValueError(
            f"its column '{columns.id}' (id) is a {type(id).__name__}; write text or a number"
        )
    return Question(str(id), problem, answer, row.where)


def _text(row: dict[str, Any], column: str, role: str) -> str:
    return text_of(row, column, role, f"--columns {role}=COLUMN")
