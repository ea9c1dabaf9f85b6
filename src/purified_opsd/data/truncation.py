"""The length limit of prompts: a reference that does not fit is cut at its end, or its row refused.

The teacher's prompt holds question and reference, so it is the longest of the three contexts and
decides for all of them. Questions and instructions are never cut.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from purified_opsd.errors import DataError

from .dataset import Example


@dataclass(frozen=True)
class ReferenceTruncation:
    """Cuts the references of prompts that are longer than a limit."""

    limit: int
    """Most tokens of a prompt: `max_tokens`, or less where the model's context leaves less."""
    max_tokens: int
    """The setting `prompts.max_tokens`."""
    long_reference: Literal["cut", "refuse"]
    """The setting `prompts.long_reference`."""
    teacher_context: Callable[[str, str], list[int]]
    """The teacher's prompt with a problem and a reference."""

    def truncated(self, example: Example) -> str:
        """The example's reference, or the longest beginning of it that fits.

        Raises DataError where the question cannot fit, or the reference neither fits nor may be
        cut.
        """
        reference = example.reference
        if self._fits(example.problem, reference):
            return reference
        if self.long_reference == "refuse":
            raise DataError(
                f"{example.where}: its reference does not fit: the teacher's prompt has more than "
                f"{self.limit} tokens. Shorten it, raise prompts.max_tokens if the model's context "
                "allows, or let it be cut with --prompts.long-reference cut."
            )
        if not self._fits(example.problem, reference[:1]):
            raise DataError(
                f"{example.where}: its question does not fit: without any reference the teacher's "
                f"prompt has more than {self.limit} tokens (prompts.max_tokens is "
                f"{self.max_tokens}; the completion must fit into the model's context "
                "too). Questions are never cut: leave the row out, or allow more tokens."
            )

        def too_long(characters: int) -> bool:
            return not self._fits(example.problem, reference[:characters])

        # One character fits and the whole does not: halve in between.
        shortest_too_long = bisect_left(range(len(reference)), True, lo=1, key=too_long)
        return reference[: shortest_too_long - 1]

    def check(self, example: Example) -> None:
        """Raises DataError as `truncated` does, and tokenizes nothing where the bytes already tell
        that everything fits.
        """
        text = example.problem
        if self.long_reference == "refuse":
            text += example.reference
        # A token is a byte at least.
        if self._frame_tokens + len(text.encode()) > self.limit:
            self.truncated(example)

    @cached_property
    def _frame_tokens(self) -> int:
        """Tokens of a teacher's prompt beside the problem, and one character of a reference."""
        return len(self.teacher_context("", "")) + 4

    def _fits(self, problem: str, reference: str) -> bool:
        return len(self.teacher_context(problem, reference)) <= self.limit
