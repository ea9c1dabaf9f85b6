"""Training sets: their settings, and the validated examples that are read by them.

A set names its file, its columns and the view of a row that the teacher is shown as the reference:
the whole solution, its part after the thoughts, or the answer alone. Every row is read and
validated before a model is loaded; seed and epoch decide the order.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


ReferenceView = WholeSolution | AfterThink | AnswerOnly


@dataclass(frozen=True)
class Columns:
    """Which column holds what.

    Null stands for the column of that name, where there is one; rows without `id` are numbered.
    """

    problem: str = "problem"
    """The question."""
    solution: str = "solution"
    """The reference solution."""
    answer: str | None = None
    """The final answer, which `reference: answer-only` shows; null: `answer`, if there is one."""
    id: str | None = None
    """What a row is known by; null: `id`, where there is one, else its number."""


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


def load_examples(settings: TrainingSet) -> Examples:
    """Reads and validates the training set.

    Of a large set, no more than twice `subset` rows are held at a time. Raises DataError that names
    each bad row (the first five) as file:row, or says that nothing is left.
    """
    examples: list[Example] = []
    errors: list[str] = []
    usable = 0
    for example in usable_examples(settings, errors):
        usable += 1
        examples.append(example)
        if settings.subset and len(examples) == 2 * settings.subset:
            examples = _subset(examples, settings.subset, settings.subset_seed)
    refuse_bad_rows(settings, errors, usable)
    if settings.subset is not None:
        if not 0 < settings.subset <= len(examples):
            raise DataError(
                f"{settings.path} has {len(examples)} usable rows, but data.subset asks for "
                f"{settings.subset}. Ask for between 1 and that many, or leave data.subset out."
            )
        examples = _subset(examples, settings.subset, settings.subset_seed)
    return Examples(tuple(examples), len(errors), fingerprint(examples))


def usable_examples(settings: TrainingSet, errors: list[str]) -> Iterator[Example]:
    """Every row that can be used, in the set's order.

    What is wrong with each other row is added to `errors`.
    """
    columns = settings.columns or READY_COLUMNS.get(settings.path, Columns())
    first_seen: dict[str, str] = {}
    rows = read_rows(settings.path, settings.config, settings.split, settings.revision)
    for number, row in enumerate(_matching(rows, settings.where), 1):
        try:
            example = _example(row, number, columns, settings.reference)
            if example.id in first_seen:
                raise ValueError(
                    f"its id '{example.id}' already stands at {first_seen[example.id]}; give each "
                    "row its own id"
                )
        except ValueError as error:
            errors.append(f"{row.where}: {error}.")
        else:
            first_seen[example.id] = example.where
            yield example


def refuse_bad_rows(settings: TrainingSet, errors: Sequence[str], usable: int) -> None:
    """Raises DataError where rows are bad and may not be skipped, or where none is usable."""
    if errors and settings.on_bad_row == "fail":
        more = f"\n... and {len(errors) - 5} more." if len(errors) > 5 else ""
        raise DataError(
            f"{len(errors)} of {len(errors) + usable} rows of {settings.path} cannot be used:\n"
            + "\n".join(errors[:5])
            + more
            + "\nMend them, or leave such rows out with --data.on-bad-row skip."
        )
    if not usable:
        reason = _why_empty(settings, errors)
        raise DataError(f"{settings.path}: no row is left to train on. {reason}")


def _why_empty(settings: TrainingSet, errors: Sequence[str]) -> str:
    if errors:
        return f"All {len(errors)} were skipped; the first: {errors[0]}"
    condition = f" with {dict(settings.where)}" if settings.where else ""
    return (
        f"It holds no rows{condition}. Give a file with one JSON object a line, holding a problem "
        "and its solution."
    )


def _matching(rows: Iterable[Row], where: Mapping[str, str]) -> Iterator[Row]:
    """The rows whose columns have the values of `where`, and those that could not be read."""
    for row in rows:
        if not isinstance(row.value, dict) or _has_values(row.value, where):
            yield row


def _has_values(columns: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    return all(str(columns.get(name)) == value for name, value in where.items())


def _example(row: Row, number: int, columns: Columns, view: ReferenceView) -> Example:
    """The example that a row holds.  Raises ValueError that says what is wrong with the row."""
    if isinstance(row.value, ValueError):
        raise row.value
    if not isinstance(row.value, dict):
        raise ValueError(
            f"it holds a {type(row.value).__name__}, not an object with columns; write one JSON "
            "object a row"
        )
    problem = _text(row.value, columns.problem, "problem")
    solution = ""
    if not isinstance(view, AnswerOnly):
        solution = _text(row.value, columns.solution, "solution")
    answer = _optional_text(row.value, columns.answer, "answer")
    reference = view(solution, answer)
    if not reference.strip():
        raise ValueError("its reference is empty, so the teacher would know nothing; fill it in")
    id = _optional_text(row.value, columns.id, "id") or f"row-{number}"
    return Example(id, problem, reference, answer, row.where)


def _text(row: dict[str, Any], column: str, role: str) -> str:
    return text_of(row, column, role, f"--data.columns.{role} COLUMN")


def _optional_text(row: dict[str, Any], column: str | None, role: str) -> str | None:
    """Numbers count as text here: many sets write answers and ids so."""
    if column is None and row.get(role) is None:
        return None
    name = column or role
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(
            f"its column '{name}' ({role}) is {kind_of(value)}; write text or a number"
        )
    return str(value)


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
