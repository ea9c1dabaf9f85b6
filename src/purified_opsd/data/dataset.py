"""Training sets: read, validate and fingerprint every row before a model is loaded; order them by
seed and epoch.

What of a row the teacher is shown: the whole solution, its part after the thoughts, or the answer
alone.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, ClassVar, Literal

from purified_opsd.errors import DataError

from .readers import Row, kind_of, read_rows, text_of
from .seeds import seed_for


@dataclass(frozen=True)
class WholeSolution:
    """The reference is the whole solution, thoughts included."""

    kind: ClassVar[str] = "whole-solution"

    def __call__(self, solution: str, answer: str | None) -> str:
        return solution


@dataclass(frozen=True)
class AfterThink:
    """The reference is what follows the solution's last `</think>`."""

    kind: ClassVar[str] = "after-think"

    def __call__(self, solution: str, answer: str | None) -> str:
        if "</think>" not in solution:
            raise ValueError(
                "its solution holds no '</think>'; take the whole solution as the reference"
            )
        return solution.rsplit("</think>", 1)[1].strip()


@dataclass(frozen=True)
class AnswerOnly:
    """The reference is the final answer alone."""

    kind: ClassVar[str] = "answer-only"

    def __call__(self, solution: str, answer: str | None) -> str:
        if answer is None:
            raise ValueError(
                "it has no answer; name the answer's column, or take the whole solution as the "
                "reference"
            )
        return f"The final answer is \\boxed{{{answer}}}."


Reference = WholeSolution | AfterThink | AnswerOnly

pass


@dataclass(frozen=True)
class Columns:
    """Which column holds what.  Null: the column of that name where there is one (rows without `id`
    are numbered).
    """

    problem: str = "problem"
    solution: str = "solution"
    answer: str | None = None
    id: str | None = None


READY_COLUMNS: Mapping[str, Columns] = {
    "jasonrqh/Math-CoT-20k": Columns(problem="question", solution="response", answer="answer"),
    "Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b": Columns(
        problem="input", solution="output", id="uuid"
    ),
    "siyanzhao/Openthoughts_math_30k_opsd": Columns(),
    "HuggingFaceH4/aime_2024": Columns(answer="answer", id="id"),
    "yentinglin/aime_2025": Columns(answer="answer", id="id"),
    "MathArena/hmmt_feb_2025": Columns(solution="answer", answer="answer", id="problem_idx"),
}
"""The column mappings of known data sets, by hub id, as their cards give them."""


@dataclass(frozen=True)
class TrainingSet:
    """Where the rows come from and what of them is used.  Also the record of a run's data."""

    short_form: ClassVar[tuple[str, ...]] = (
        "path", "config", "split", "revision", "columns", "where", "subset"
    )  # fmt: skip
    """`data: X` sets the first; the others, which described the former set, are as by default."""
    path: str
    """A JSONL, JSON or Parquet file, a folder of them, or a hub data set id."""
    config: str | None = None
    """Configuration of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    revision: str | None = None
    """Revision of a hub data set."""
    columns: Columns | None = None
    """Null: the mapping of a known hub id, else columns named problem, solution, answer and id."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Keep only the rows whose columns have these values."""
    subset: int | None = None
    """Keep a sample of this many rows, a function of `subset_seed` alone."""
    subset_seed: int = 0
    reference: Reference = WholeSolution()
    """What of a row the teacher is shown."""
    on_bad_row: Literal["fail", "skip"] = "fail"


@dataclass(frozen=True)
class Example:
    """One question with its reference solution; `where` names its file and row."""

    id: str
    problem: str
    reference: str
    answer: str | None
    where: str


@dataclass(frozen=True)
class Examples:
    """A validated training set."""

    rows: tuple[Example, ...]
    skipped: int
    """Bad rows left out under `on_bad_row: skip`."""
    fingerprint: str
    """sha256 of every id, problem, reference and answer, in order."""

    def batch(self, step: int, size: int, seed: int) -> list[Example]:
        """The examples of one step: epochs laid end to end, each in an order of its own."""
        places = range(step * size, (step + 1) * size)
        return [
            self.rows[
                epoch_order(len(self.rows), seed, place // len(self.rows))[place % len(self.rows)]
            ]
            for place in places
        ]


@lru_cache(maxsize=2)
def epoch_order(n: int, seed: int, epoch: int) -> tuple[int, ...]:
    """A permutation of range(n) that is a function of seed and epoch."""
    return tuple(sorted(range(n), key=lambda i: (seed_for(seed, "order", epoch, i), i)))


def load_examples(settings: TrainingSet) -> Examples:
    """Read and validate the training set; of a large one, no more than twice `subset` rows are held
    at a time.

    Raises DataError that names each bad row (the first five) as file:row, or says that nothing is
    left.
    """
    good: list[Example] = []
    bad: list[str] = []
    usable = 0
    for example in usable_examples(settings, bad):
        usable += 1
        good.append(example)
        if settings.subset and len(good) == 2 * settings.subset:
            good = _sample(good, settings.subset, settings.subset_seed)
    refuse_bad_rows(settings, bad, usable)
    if settings.subset is not None:
        if not 0 < settings.subset <= len(good):
            raise DataError(
                f"{settings.path} has {len(good)} usable rows, but data.subset asks for "
                f"{settings.subset}. Ask for between 1 and that many, or leave data.subset out."
            )
        good = _sample(good, settings.subset, settings.subset_seed)
    return Examples(tuple(good), len(bad), fingerprint(good))


def usable_examples(settings: TrainingSet, bad: list[str]) -> Iterator[Example]:
    """Every row that can be used, in the set's order; what is wrong with each other one is added to
    `bad`.
    """
    columns = settings.columns or READY_COLUMNS.get(settings.path, Columns())
    places: dict[str, str] = {}
    rows = read_rows(settings.path, settings.config, settings.split, settings.revision)
    for number, row in enumerate(_kept(rows, settings.where), 1):
        try:
            example = _example(row, number, columns, settings.reference)
            if example.id in places:
                raise ValueError(
                    f"its id '{example.id}' already stands at {places[example.id]}; give each row "
                    "its own id"
                )
        except ValueError as problem:
            bad.append(f"{row.where}: {problem}.")
        else:
            places[example.id] = example.where
            yield example


def refuse_bad_rows(settings: TrainingSet, bad: list[str], usable: int) -> None:
    """Raises DataError where rows are bad and may not be skipped, or where none is usable."""
    if bad and settings.on_bad_row == "fail":
        more = f"\n... and {len(bad) - 5} more." if len(bad) > 5 else ""
        raise DataError(
            f"{len(bad)} of {len(bad) + usable} rows of {settings.path} cannot be used:\n"
            + "\n".join(bad[:5])
            + more
            + "\nMend them, or leave such rows out with --data.on-bad-row skip."
        )
    if not usable:
        raise DataError(f"{settings.path}: no row is left to train on. {_why_empty(bad, settings)}")


def _why_empty(bad: list[str], settings: TrainingSet) -> str:
    if bad:
        return f"All {len(bad)} were skipped; the first: {bad[0]}"
    kept = f" with {dict(settings.where)}" if settings.where else ""
    return f"It holds no rows{kept}. Give a file with one JSON object a line, holding a problem and its solution."


def _kept(rows: Iterator[Row], where: Mapping[str, str]) -> Iterator[Row]:
    for row in rows:
        if not isinstance(row.value, dict) or all(
            str(row.value.get(k)) == v for k, v in where.items()
        ):
            yield row


def _example(row: Row, number: int, columns: Columns, reference: Reference) -> Example:
    if isinstance(row.value, ValueError):
        raise row.value
    if not isinstance(row.value, dict):
        raise ValueError(
            f"it holds a {type(row.value).__name__}, not an object with columns; write one JSON "
            "object a row"
        )
    problem = _text(row.value, columns.problem, "problem")
    solution = (
        "" if isinstance(reference, AnswerOnly) else _text(row.value, columns.solution, "solution")
    )
    answer = _optional(row.value, columns.answer, "answer")
    text = reference(solution, answer)
    if not text.strip():
        raise ValueError("its reference is empty, so the teacher would know nothing; fill it in")
    return Example(
        _optional(row.value, columns.id, "id") or f"row-{number}", problem, text, answer, row.where
    )


def _text(row: dict[str, Any], column: str, role: str) -> str:
    return text_of(row, column, role, f"--data.columns.{role} COLUMN")


def _optional(row: dict[str, Any], column: str | None, role: str) -> str | None:
    """Numbers count as text here: many sets write answers and ids so."""
    if column is None and row.get(role) is None:
        return None
    value = row.get(column or role)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(
            f"its column '{column or role}' ({role}) is {kind_of(value)}; write text or a number"
        )
    return str(value)


def _sample(rows: list[Example], size: int, seed: int) -> list[Example]:
    """The rows with the lowest draws, in their order; each row's draw is its own, so a sample of
    samples is the sample.
    """
    by_draw = sorted(range(len(rows)), key=lambda i: (seed_for(seed, "subset", rows[i].id), i))
    return [rows[i] for i in sorted(by_draw[:size])]


def fingerprint(rows: Sequence[Example]) -> str:
    """sha256 of every id, problem, reference and answer, in order."""
    digest = sha256()
    for row in rows:
        digest.update(json.dumps([row.id, row.problem, row.reference, row.answer]).encode())
    return digest.hexdigest()
