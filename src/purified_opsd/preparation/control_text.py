"""Rows that spell a control token."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from purified_opsd.data.control_tokens import ControlTokens
from purified_opsd.data.dataset import Example

from .prepare import Finding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ControlText:
    """Remarks on a row that spells a control token of a tokenizer: in prompts it stays text."""

    tokenizer: "PreTrainedTokenizerBase"

    def __call__(self, examples: Sequence[Example]) -> Sequence[Finding | None]:
        return [self._finding(f"{row.problem}\n{row.reference}") for row in examples]

    @cached_property
    def _control(self) -> ControlTokens:
        return ControlTokens.of(self.tokenizer)

    def _finding(self, text: str) -> Finding | None:
        start = next(self._control.positions(text), None)
        if start is None:
            return None
        reason = "spells a control token, which stays text in prompts"
        return Finding(reason, repr(text[start : start + 24]), drops=False)
