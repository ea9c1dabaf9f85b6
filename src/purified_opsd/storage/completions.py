"""A completion as a row of JSON: the same fields in every file that holds completions.

rollouts/, evaluation/, diagnosis/ and samples/ hold one row a line, microscope/ one row a file.
Beside the fields of `CompletionRow` each kind of file has extras of its own.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from purified_opsd.errors import RunError

from .files import json_line, read_json, read_jsonl, write_atomic

FinishReason = Literal["stop", "length"]
"""`stop`: the student ended the completion; `length`: it was cut off at max_new_tokens."""

REQUIRED = ("id", "finish_reason", "text", "completion_ids")
"""The fields that every row has."""


@dataclass(frozen=True)
class CompletionRow:
    """One completion, as a file holds it."""

    id: str
    """The question's."""
    finish_reason: FinishReason
    text: str
    completion_ids: list[int]
    """Every sampled token, the one that ended the completion included."""
    seed: int | None = None
    """What it was drawn with; None in files that do not say."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """What its kind of file has beside the fields above."""

    def to_json(self) -> dict[str, Any]:
        seed = {} if self.seed is None else {"seed": self.seed}
        return {
            "id": self.id,
            **seed,
            "finish_reason": self.finish_reason,
            "text": self.text,
            "completion_ids": self.completion_ids,
            **self.extras,
        }


def write_completions(file: Path, rows: Iterable[CompletionRow]) -> None:
    """Writes a .jsonl file of completions, the whole file or none of it."""
    write_atomic(file, "".join(json_line(row.to_json()) for row in rows))


def read_completions(
    file: Path, *extras: str, remedy: str = "Nothing was changed."
) -> Iterator[CompletionRow]:
    """The rows of a .jsonl file of completions, none where there is no file; a last line that was
    never finished is left out.

    Raises RunError for a finished line that is no completion or lacks one of these extras; its
    message ends with the remedy.
    """
    rows = read_jsonl(file, *REQUIRED, *extras, remedy=remedy)
    for number, row in enumerate(rows, 1):
        yield _completion_row(row, f"{file}:{number}", remedy)


def write_completion(file: Path, row: CompletionRow) -> None:
    """Writes a .json file that holds one completion."""
    write_atomic(file, json_line(row.to_json()))


def read_completion(file: Path, *extras: str) -> CompletionRow:
    """The completion that a .json file holds.  Raises RunError for a damaged file, or one that
    lacks one of these extras.
    """
    row = read_json(file, *REQUIRED, *extras)
    return _completion_row(row, str(file), "Delete it, and make it again.")


def _completion_row(row: Mapping[str, Any], source: str, remedy: str) -> CompletionRow:
    """Raises RunError where a field is not of its type."""
    finish_reason, ids = row["finish_reason"], row["completion_ids"]
    if finish_reason not in get_args(FinishReason):
        got = json.dumps(finish_reason)
        raise RunError(
            f'{source} is damaged: its `finish_reason` is {got}, not "stop" or "length". {remedy}'
        )
    if not isinstance(ids, list) or not all(isinstance(token, int) for token in ids):
        raise RunError(
            f"{source} is damaged: its `completion_ids` are no list of token ids. {remedy}"
        )
    extras = {name: value for name, value in row.items() if name not in (*REQUIRED, "seed")}
    return CompletionRow(
        row["id"], finish_reason, row["text"], ids, seed=row.get("seed"), extras=extras
    )
