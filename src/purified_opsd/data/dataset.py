"""Training sets: their settings, and the validated examples that are read by them.

A set names its file, its columns and the view of a row that the teacher is shown as the reference:
the whole solution, its part after the thoughts, or the answer alone. Every row is read and
validated before a model is loaded; seed and epoch decide the order.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, ClassVar, Literal

from purified_opsd.errors import DataError

from .bad_rows import BadRows
from .columns import READY_COLUMNS, Columns, require_columns
from .fields import kind_of, text_of
from .readers import Row, read_rows
from .seeds import seed_for
from .shapes import shape_of
from .where import matching_rows


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
                "it has no answer; name the answer's column with --data.columns.answer COLUMN, or "
                "take the whole solution as the reference"
            )
        return f"The final answer is \\boxed{{{answer}}}."


ReferenceView = WholeSolution | AfterThink | AnswerOnly


@dataclass(frozen=True)
class TrainingSet:
    """Where the rows come from and what of them is used (docs/data.md).  Also the record of a run's
    data.
    """

    short_form: ClassVar[tuple[str, ...]] = (
        "path", "config", "split", "revision", "columns", "where", "subset"
    )  # fmt: skip
    """`data: X` sets the first; the others, which described the former set, are as by default."""
    path: str
    """A JSONL, JSON, Parquet, CSV or TSV file, also as .gz, a folder of them, or a hub data set id.
    """
    config: str | None = None
    """Configuration of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    revision: str | None = None
    """Revision of a hub data set."""
    columns: Columns | None = None
    """Null: the mapping of a known hub id, else columns named problem, solution, answer and id, or
    one of the shapes of chat sets (docs/data.md).
    """
    where: Mapping[str, str] = field(default_factory=dict)
    """Keep only the rows whose columns have these values."""
    subset: int | None = None
    """Keep a sample of this many rows, a function of `subset_seed` alone."""
    subset_seed: int = 0
    """Decides the sample."""
    reference: ReferenceView = WholeSolution()
    """What of a row the teacher is shown."""
    on_bad_row: Literal["fail", "skip"] = "fail"
    """What a row that cannot be used does: end the run before it begins, or be left out."""


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
    shapes: Mapping[str, int]
    """Rows that were read by their shape, not by columns: how many of each."""
    fingerprint: str
    """sha256 of every id, problem, reference and answer, in order."""

    def batch(self, step: int, size: int, seed: int) -> list[Example]:
        """The examples of one step: epochs laid end to end, each in an order of its own."""
        count = len(self.rows)
        batch = []
        for index in range(step * size, (step + 1) * size):
            epoch, index_in_epoch = divmod(index, count)
            order = epoch_order(count, seed, epoch)
            batch.append(self.rows[order[index_in_epoch]])
        return batch


@lru_cache(maxsize=2)
def epoch_order(n: int, seed: int, epoch: int) -> tuple[int, ...]:
    """A permutation of range(n) that is a function of seed and epoch."""
    return tuple(sorted(range(n), key=lambda i: (seed_for(seed, "order", epoch, i), i)))


@dataclass
class Reading:
    """What came up while a set was read."""

    usable: int = 0
    bad: BadRows = field(default_factory=BadRows)
    shapes: Counter[str] = field(default_factory=Counter)
    """Usable rows that were read by their shape, by its name."""
    seen_columns: dict[str, None] = field(default_factory=dict)
    """Every column of any row, whether it was kept by `where` or not."""


def load_examples(settings: TrainingSet) -> Examples:
    """Reads and validates the training set (docs/data.md).

    Of a large set, no more than twice `subset` rows are held at a time. Raises DataError that names
    each bad row (the first five) as file:row, or says that nothing is left.
    """
    examples: list[Example] = []
    reading = Reading()
    for example in usable_examples(settings, reading):
        examples.append(example)
        if settings.subset and len(examples) == 2 * settings.subset:
            examples = _subset(examples, settings.subset, settings.subset_seed)
    refuse_bad_rows(settings, reading)
    if settings.subset is not None:
        if not 0 < settings.subset <= len(examples):
            raise DataError(
                f"{settings.path} has {len(examples)} usable rows, but data.subset asks for "
                f"{settings.subset}. Ask for between 1 and that many, or leave data.subset out."
            )
        examples = _subset(examples, settings.subset, settings.subset_seed)
    return Examples(tuple(examples), reading.bad.count, reading.shapes, fingerprint(examples))


def usable_examples(settings: TrainingSet, reading: Reading) -> Iterator[Example]:
    """Every row that can be used, in the set's order.

    What is wrong with each other row, and how the rows were read, is added to `reading`.
    """
    first_seen: dict[str, str] = {}
    rows = read_rows(settings.path, settings.config, settings.split, settings.revision)
    for number, row in enumerate(matching_rows(rows, settings.where, reading.seen_columns), 1):
        try:
            columns, shape = _columns(row, settings)
            example = _example(columns, row.where, number, settings)
            if example.id in first_seen:
                raise ValueError(
                    f"its id '{example.id}' already stands at {first_seen[example.id]}; give each "
                    "row its own id"
                )
        except ValueError as error:
            reading.bad.add(row.where, error)
        else:
            first_seen[example.id] = example.where
            reading.usable += 1
            if shape:
                reading.shapes[shape] += 1
            yield example


def refuse_bad_rows(settings: TrainingSet, reading: Reading) -> None:
    """Raises DataError where rows are bad and may not be skipped, or where none is usable."""
    bad = reading.bad
    if bad.count and settings.on_bad_row == "fail":
        skip = ", or leave such rows out with --data.on-bad-row skip" if reading.usable else ""
        raise DataError(
            f"{bad.count} of {bad.count + reading.usable} rows of {settings.path} cannot be used:\n"
            f"{bad.describe()}\n"
            f"Mend them{skip}."
        )
    if not reading.usable:
        reason = _why_empty(settings, reading)
        raise DataError(f"{settings.path}: no row is left to train on. {reason}")


def _why_empty(settings: TrainingSet, reading: Reading) -> str:
    if reading.bad.count:
        return f"All {reading.bad.count} were skipped; the first: {reading.bad.shown[0]}"
    for name in settings.where:
        if reading.seen_columns and name not in reading.seen_columns:
            return (
                f"No row has the column '{name}' of data.where; they have "
                f"{', '.join(reading.seen_columns)}. Name one of these."
            )
    condition = f" with {dict(settings.where)}" if settings.where else ""
    return (
        f"It holds no rows{condition}. Give a file with one JSON object a line, holding a problem "
        "and its solution."
    )


def _columns(row: Row, settings: TrainingSet) -> tuple[dict[str, Any], str]:
    """The columns of a row, and the name of the shape by which they were found, if they were.

    Raises ValueError for a row that could not be read, or is no object.
    """
    if isinstance(row.value, ValueError):
        raise row.value
    if not isinstance(row.value, dict):
        raise ValueError(
            f"it holds {kind_of(row.value)}, not an object with columns; write one JSON "
            "object a row"
        )
    if settings.columns is not None or settings.path in READY_COLUMNS:
        return row.value, ""
    shape = shape_of(row.value)
    return (shape(row.value), shape.name) if shape else (row.value, "")


def _example(row: dict[str, Any], where: str, number: int, settings: TrainingSet) -> Example:
    """The example that a row holds.  Raises ValueError that says what is wrong with the row."""
    columns = settings.columns or READY_COLUMNS.get(settings.path, Columns())
    view = settings.reference
    role = "answer" if isinstance(view, AnswerOnly) else "solution"
    require_columns(row, columns.required(role), "--data.columns")
    problem = text_of(row, columns.problem, "problem")
    solution = ""
    if not isinstance(view, AnswerOnly):
        solution = text_of(row, columns.solution, "solution")
    answer = columns.text(row, "answer")
    reference = view(solution, answer)
    if not reference.strip():
        raise ValueError("its reference is empty, so the teacher would know nothing; fill it in")
    id = columns.text(row, "id") or f"row-{number}"
    return Example(id, problem, reference, answer, where)


def _subset(examples: list[Example], size: int, seed: int) -> list[Example]:
    """The examples with the lowest draws, in their order.

    Each example's draw is its own, so a subset of subsets is the subset.
    """
    draws = [seed_for(seed, "subset", example.id) for example in examples]
    by_draw = sorted(range(len(examples)), key=lambda index: (draws[index], index))
    return [examples[index] for index in sorted(by_draw[:size])]


def fingerprint(examples: Sequence[Example]) -> str:
    """sha256 of every id, problem, reference and answer, in order."""
    digest = sha256()
    for example in examples:
        fields = [example.id, example.problem, example.reference, example.answer]
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()
