"""Which column of a row holds what, and the setting to write where a column is not there."""

import difflib
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .bad_rows import ShapeError
from .fields import optional_text


@dataclass(frozen=True)
class Columns:
    """Which column holds what.

    Null stands for the column of that name, where there is one that holds nothing else; rows
    without `id` are numbered.
    """

    problem: str = "problem"
    """The question."""
    solution: str = "solution"
    """The reference solution."""
    answer: str | None = None
    """The final answer, which `reference: answer-only` shows; null: `answer`, if there is one."""
    id: str | None = None
    """What a row is known by; null: `id`, where there is one, else its number."""

    def required(self, *roles: str) -> dict[str, str]:
        """The columns that each row must have, by role: the problem's, those of the roles, and all
        optional ones that were named.
        """
        named = {"problem": self.problem, "solution": self.solution}
        columns = {role: named[role] for role in ("problem", *roles) if role in named}
        for role, column in self._optional.items():
            if column is not None or role in roles:
                columns[role] = column or role
        return columns

    def text(self, row: dict[str, Any], role: str) -> str | None:
        """The text of the column of an answer or id, None where it was not named and there is none.

        Raises ValueError where the one that was named holds nothing.
        """
        column = self._optional[role]
        if column is None:
            taken = role in (self.problem, self.solution)
            return None if taken else optional_text(row, role, role)
        text = optional_text(row, column, role)
        if text is None:
            kind = "null" if row[column] is None else "empty"
            raise ValueError(f"its column '{column}' ({role}) is {kind}; write text or a number")
        return text

    @property
    def _optional(self) -> dict[str, str | None]:
        return {"answer": self.answer, "id": self.id}


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

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "problem": ("problem", "question", "instruction", "prompt", "query", "input", "task"),
    "solution": (
        "solution",
        "response",
        "generated_solution",
        "output",
        "completion",
        "reasoning",
        "rationale",
        "explanation",
        "cot",
        "generation",
        "answer",
    ),
    "answer": (
        "answer",
        "final_answer",
        "expected_answer",
        "ground_truth",
        "gold",
        "target",
        "label",
        "solution",
    ),
    "id": ("id", "uuid", "unique_id", "problem_id", "problem_idx", "question_id"),
}
"""How public data sets name the column of each role, in the order in which they are proposed."""


def require_columns(row: Mapping[str, Any], columns: Mapping[str, str], option: str) -> None:
    """Raises ShapeError where the row lacks the column of a role.

    `columns` are the columns by role, `option` is how a user names them: `--data.columns`.
    """
    for role, column in columns.items():
        if column not in row:
            names = ", ".join(_printable(name) for name in row) or "none"
            raise ShapeError(
                f"column {column}",
                f"it has no column '{column}' for the {role}; it has {names}. "
                f"{_mapping_to_write(row, columns, option)}",
            )


def _mapping_to_write(row: Mapping[str, Any], columns: Mapping[str, str], option: str) -> str:
    """The words that name the right columns, as far as their names tell them."""
    chosen = {role: column for role, column in columns.items() if column in row}
    for role in columns:
        if role not in chosen:
            chosen[role] = _nearest_column(row, role, chosen.values()) or "COLUMN"
    words = [
        f"{option}.{role} {shlex.quote(_printable(chosen[role]))}"
        for role in columns
        if chosen[role] != role
    ]
    ones = "one" if len(words) == 1 else "ones"
    note = ""
    if chosen.get("problem") == "instruction" and "input" in row:
        note = " (the column 'input' is not shown with it: where it is filled in, join the two)"
    return f"Name the right {ones} with {' '.join(words)}{note}"


def _nearest_column(row: Mapping[str, Any], role: str, taken: Collection[str]) -> str | None:
    """The column whose name is usual for the role, or near to it."""
    by_name = {
        _plain(name): name
        for name, value in row.items()
        if name not in taken and isinstance(value, str | int | float)
    }
    for name in USUAL_NAMES[role]:
        if name in by_name:
            return by_name[name]
    near = difflib.get_close_matches(role, by_name, 1, cutoff=0.7)
    return by_name[near[0]] if near else None


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
