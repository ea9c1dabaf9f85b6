"""Benchmarks: questions with certain answers, and the grader that goes with them.

The three of the paper, MATH-500 and GPQA-Diamond by name, the miniature's held-out questions, and
any file or hub data set by its path.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from purified_opsd.data.bad_rows import BadRows
from purified_opsd.data.columns import require_columns
from purified_opsd.data.fields import kind_of, optional_text, text_of
from purified_opsd.data.readers import Row, is_data_file, read_rows, set_name
from purified_opsd.data.shapes import final_answer
from purified_opsd.errors import DataError
from purified_opsd.evaluation.grading.custom_grader import CustomGrader, load_grader
from purified_opsd.evaluation.grading.graders import CountdownGrader, Grader, MathGrader
from purified_opsd.evaluation.grading.letter_grader import LetterGrader
from purified_opsd.miniature.rows import draw_rows
from purified_opsd.miniature.task import Split, problems

from .answer_digest import digest_of
from .multiple_choice import OptionColumns, lettered


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
    """A JSONL, JSON, Parquet, CSV or TSV file, also as .gz, a folder of them, or a hub data set id.
    """
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: AnswerColumns = AnswerColumns()
    options: OptionColumns | None = None
    """The columns of a multiple-choice set, whose options get letters; null: it is none."""
    rows: int | None = None
    """The number of rows that there must be; null: any number."""
    answers: str | None = None
    """The digest that `digest_of` must give of the answers, so that neither a row nor an answer
    changes unseen; null: any.
    """


PAPERS: Mapping[str, Source] = {
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

SOURCES: Mapping[str, Source] = {
    **PAPERS,
    "math500": Source(
        "HuggingFaceH4/MATH-500",
        split="test",
        columns=AnswerColumns(id="unique_id"),
        rows=500,
    ),
    "gpqa-diamond": Source(
        "Idavidrein/gpqa", config="gpqa_diamond", options=OptionColumns(), rows=198
    ),
}
"""And MATH-500, graded as mathematics, and GPQA, by the letter."""

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


def load_benchmark(
    name: str, columns: AnswerColumns | None = None, grader: CustomGrader | None = None
) -> Benchmark:
    """A benchmark by name (`aime25`, or `aime25@REVISION` of its hub data set), by path
    (`problems.jsonl`), by hub id (`org/set:SPLIT@REVISION`, split and revision as needed), or a
    named one read from a path (`aime25=aime.jsonl`).

    `columns` and `grader` are those of a set by path or hub id; named ones have their own, and
    without a grader answers are graded as mathematics.  Raises DataError where there is none of
    that name, or a row lacks its problem or answer, naming each as file:row.
    """
    if name == COUNTDOWN:
        return countdown()
    name = located_benchmark(name)
    columns = columns or AnswerColumns()
    path = Path(name).expanduser()
    if path.exists():
        return _load(set_name(path), name, Source(name, columns=columns), grader)
    known, equals, file = name.partition("=")
    if equals:
        return _load_known_from(known, file, name)
    known, _, revision = name.partition("@")
    if known in SOURCES:
        return _load(known, name, replace(SOURCES[known], revision=revision or None))
    hub = _HUB.fullmatch(name)
    if not hub or is_data_file(path):
        raise DataError(_no_such_benchmark(name))
    source = Source(
        hub["id"], split=hub["split"] or "train", revision=hub["revision"], columns=columns
    )
    parts = hub["id"].split("/")
    if hub["split"]:
        parts.append(hub["split"])
    return _load("--".join(parts), name, source, grader)


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
    names = [*PAPERS, COUNTDOWN, *(name for name in SOURCES if name not in PAPERS)]
    near = difflib.get_close_matches(name, names, 1)
    hint = f". Did you mean {near[0]}?" if near else " and no file of that name."
    return (
        f"There is no benchmark '{name}'{hint} Named ones: {', '.join(names)}; or give a .jsonl, "
        ".json, .parquet, .csv or .tsv file, or a hub id (org/name, org/name:split, "
        "org/name@revision)."
    )


def reload_benchmark(record: Mapping[str, Any], grader: CustomGrader | None = None) -> Benchmark:
    """The benchmark of a record, with its answers as they are today, and graded as it was unless
    another grader is given.  Raises DataError where it is not there any more, and SettingsError
    where its grader is not.
    """
    columns = record.get("columns")
    if not grader and record.get("grader"):
        grader = load_grader(record["grader"])
    return load_benchmark(record["spec"], AnswerColumns(**columns) if columns else None, grader)


def countdown() -> Benchmark:
    """Every question of the miniature's evaluation split, in an order drawn once."""
    count = len(problems(Split.EVALUATION))
    questions = [
        Question(row["id"], row["problem"], row["answer"], f"{COUNTDOWN}:{number}")
        for number, row in enumerate(draw_rows(Split.EVALUATION, seed=0, count=count), 1)
    ]
    return _benchmark(COUNTDOWN, questions, CountdownGrader(), {"spec": COUNTDOWN})


def located_benchmark(name: str) -> str:
    """The name with its path made absolute where a file is there, so that the file is found again
    from anywhere.
    """
    known, equals, path = name.rpartition("=")
    file = Path(path).expanduser()
    return f"{known}{equals}{file.absolute()}" if file.exists() else name


def _load(name: str, spec: str, source: Source, grader: CustomGrader | None = None) -> Benchmark:
    """Reads a benchmark and checks that it is the set it should be.  `spec` is what the user named
    it by.
    """
    rows = read_rows(source.path, source.config, source.split, source.revision)
    if source.options:
        rows = lettered(rows, source.options)
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
    record = {"spec": spec, **asdict(source), "grader": grader.path if grader else None}
    own = LetterGrader() if source.options else MathGrader()
    return _benchmark(name, questions, grader or own, record)


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
    bad = BadRows()
    for number, row in enumerate(rows, 1):
        try:
            question = _question(row, number, columns)
            if question.id in questions:
                before = questions[question.id].where
                raise ValueError(f"its id '{question.id}' already stands at {before}")
            questions[question.id] = question
        except ValueError as error:
            bad.add(row.where, error)
    if bad.count:
        hint = "\nIn `train`, --columns is --evaluation.columns." if bad.lack_columns else ""
        raise DataError(
            f"The benchmark has rows that cannot be asked or graded:\n{bad.describe()}{hint}"
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
        raise ValueError(f"it is {kind_of(row.value)}, not an object with a problem and an answer")
    required = {"problem": columns.problem, "answer": columns.answer}
    require_columns(row.value, required, "--columns")
    problem = text_of(row.value, columns.problem, "problem")
    answer = _gold_answer(row.value, columns.answer)
    id = optional_text(row.value, columns.id, "id") or f"row-{number}"
    return Question(id, problem, answer, row.where)


def _gold_answer(row: dict[str, Any], column: str) -> str:
    """Text or a whole number; of a solution as GSM8K writes it, what follows its `####`."""
    value = row[column]
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if number and not (isfinite(value) and value % 1):
        return optional_text(row, column, "answer") or ""
    final = final_answer(value)
    return text_of(row if final is None else {column: final}, column, "answer")
