"""Rows of the shapes in which chat and benchmark sets come, read as problem, solution and answer.

Only what has one reading is read.  A turn that no prompt would show is a reason to refuse its row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .bad_rows import ShapeError

USER = ("user", "human")
ASSISTANT = ("assistant", "gpt")
SYSTEM = ("system",)
HIDDEN_PARTS = ("reasoning_content", "reasoning", "thinking", "tool_calls", "function_call")
"""Keys of a turn that hold something beside its text."""


@dataclass(frozen=True)
class Chat:
    """A list of turns: `{role, content}`, or `{from, value}` as ShareGPT writes them."""

    column: str

    @property
    def name(self) -> str:
        return f"{self.column} (the user's turn is the problem, the assistant's the solution)"

    def matches(self, row: dict[str, Any]) -> bool:
        return _is_chat(row.get(self.column))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        problem, solution = _two_turns(row[self.column], self.column)
        return {**row, "problem": problem, "solution": solution}


@dataclass(frozen=True)
class PromptCompletion:
    """`prompt` and `completion`, both text or both lists of turns, as TRL takes them."""

    name: str = "prompt, completion (the prompt is the problem, the completion the solution)"

    def matches(self, row: dict[str, Any]) -> bool:
        pair = row.get("prompt"), row.get("completion")
        return all(isinstance(part, str) for part in pair) or all(map(_is_chat, pair))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        problem, solution = row["prompt"], row["completion"]
        if not isinstance(problem, str):
            problem, solution = _two_turns([*problem, *solution], "prompt")
        return {**row, "problem": problem, "solution": solution}


@dataclass(frozen=True)
class QuestionAnswer:
    """`question` and `answer`, the answer a solution that ends in `#### 72`, as GSM8K writes it."""

    name: str = "question, answer (the answer is the solution; what follows its #### is the answer)"

    def matches(self, row: dict[str, Any]) -> bool:
        answer = row.get("answer")
        return isinstance(row.get("question"), str) and final_answer(answer) is not None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        solution = row["answer"]
        answer = final_answer(solution)
        return {**row, "problem": row["question"], "solution": solution, "answer": answer}


Shape = Chat | PromptCompletion | QuestionAnswer
"""A shape of rows that is known without a mapping.

`name` is what the user is told; called with a row, it gives the row the columns `problem` and
`solution`, or raises ShapeError where the row is not one question and its solution.
"""

SHAPES: Sequence[Shape] = (
    Chat("messages"),
    Chat("conversations"),
    PromptCompletion(),
    QuestionAnswer(),
)


def shape_of(row: dict[str, Any]) -> Shape | None:
    """The one shape that a row has, None where it has several, or columns of its own."""
    if "problem" in row or "solution" in row:
        return None
    shapes = [shape for shape in SHAPES if shape.matches(row)]
    return shapes[0] if len(shapes) == 1 else None


def final_answer(solution: object) -> str | None:
    """What follows the last `####` of a solution, as GSM8K writes it; None where there is none."""
    if not isinstance(solution, str) or "####" not in solution:
        return None
    return solution.rsplit("####", 1)[1].strip()


class _Turn(NamedTuple):
    role: str
    text: Any


def _is_chat(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def _two_turns(turns: Sequence[dict[str, Any]], column: str) -> tuple[Any, Any]:
    """What the user asks and what the assistant says.  Raises ShapeError for other turns."""
    read = [_turn(turn, column) for turn in turns]
    read = [turn for turn in read if turn.role not in SYSTEM or turn.text]
    roles = [turn.role for turn in read]
    if len(read) == 2 and roles[0] in USER and roles[1] in ASSISTANT:
        return read[0].text, read[1].text
    if any(role in SYSTEM for role in roles):
        raise _refusal(
            column,
            "hold a system turn, which no prompt would show; put it into the question, or take it "
            "out",
        )
    raise _refusal(
        column,
        f"are {', '.join(roles) or 'none'}; a row is one question of the user and its solution by "
        "the assistant: write rows with the columns problem and solution",
    )


def _refusal(column: str, reason: str) -> ShapeError:
    return ShapeError(f"{column} {reason}", f"the turns of its column '{column}' {reason}")


def _turn(turn: dict[str, Any], column: str) -> _Turn:
    """A turn of either notation.  Raises ShapeError where it has neither, or more than text."""
    for part in HIDDEN_PARTS:
        if turn.get(part):
            raise _refusal(
                column,
                f"hold '{part}', which would be left out; write it into the turn's text, or write "
                "rows with the columns problem and solution",
            )
    role, text = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(role, str):
        raise _refusal(
            column,
            "have neither 'role' and 'content' nor 'from' and 'value'; write rows with the columns "
            "problem and solution",
        )
    return _Turn(role, _joined(text, column))


def _joined(content: Any, column: str) -> Any:
    """The text of a turn that is written as a list of text parts; anything else as it is."""
    if not isinstance(content, list):
        return content
    parts = []
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise _refusal(column, "hold parts that are not text, which cannot be trained on")
        parts.append(part["text"])
    return "".join(parts)
