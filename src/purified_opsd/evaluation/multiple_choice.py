"""Rows with one correct and several incorrect answers, as questions with lettered options."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from purified_opsd.data.readers import Row
from purified_opsd.data.seeds import seed_for


@dataclass(frozen=True)
class OptionColumns:
    """The columns of a multiple-choice set; those of GPQA."""

    problem: str = "Question"
    correct: str = "Correct Answer"
    incorrect: tuple[str, ...] = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    id: str = "Record ID"


def lettered(rows: Iterable[Row], columns: OptionColumns) -> Iterator[Row]:
    """Every row with its options in its problem, and the letter of the correct one as its answer;
    one that lacks any of it with the ValueError that says so.

    The order of the options is a function of the row's id: the same in every run, on every machine
    and in every copy of the set, in whatever order that is.
    """
    for row in rows:
        if not isinstance(row.value, dict):
            yield row
            continue
        try:
            yield Row(row.where, _lettered(row.value, columns))
        except ValueError as problem:
            yield Row(row.where, problem)


def _lettered(row: Mapping[str, Any], columns: OptionColumns) -> dict[str, str]:
    """The row as problem, answer and id.  Raises ValueError where a column is missing or empty."""
    id = _text(row, columns.id)
    options = [columns.correct, *columns.incorrect]
    options.sort(key=lambda column: seed_for(0, "options", id, column))
    lines = [
        f"({letter}) {_text(row, column)}"
        for letter, column in zip(ascii_uppercase, options, strict=False)
    ]
    *letters, last = ascii_uppercase[: len(options)]
    problem = "\n".join(
        [
            _text(row, columns.problem),
            "",
            *lines,
            "",
            f"The final answer is a letter: {', '.join(letters)} or {last}.",
        ]
    )
    return {"problem": problem, "answer": ascii_uppercase[options.index(columns.correct)], "id": id}


def _text(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise ValueError(
            f"it has no column '{column}'; it has {', '.join(map(str, row)) or 'none'}. Give the "
            "set with the columns that it has on the hub"
        )
    value = row[column]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"its column '{column}' is {value!r}, not text; write a string")
    text = str(value).strip()
    if not text:
        raise ValueError(f"its column '{column}' is empty; fill it in")
    return text
