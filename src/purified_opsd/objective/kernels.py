"""How the elementwise part of the loss is run: compiled, or operation by operation."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .strips import Formula, RowTerms, strip_terms

log = logging.getLogger(__name__)

Strip = Callable[[Formula, Tensor, Tensor, tuple[Tensor, ...]], RowTerms]


@runtime_checkable
class Kernels(Protocol):
    """How the elementwise part is run."""

    def __call__(self, V: int) -> Strip:
        """Something that does what `strip_terms` does, for a head of V rows."""
        ...


@dataclass(frozen=True)
class Eager:
    """Operation by operation, as the formulas are written."""

    def __call__(self, V: int) -> Strip:
        return strip_terms


@dataclass(frozen=True)
class Compiled:
    """Fused by torch.compile.  Where no compiler works the formulas run as they are written, and the log says so once."""

    least_rows: int = 2**14
    """Heads with fewer rows than this run operation by operation: compiling takes longer than it would ever save."""

    def __post_init__(self):
        if self.least_rows < 0:
            raise ValueError(f"kernels.least_rows must be at least 0, got {self.least_rows}. Give eager to compile nothing.")

    def __call__(self, V: int) -> Strip:
        return _fused() if self.least_rows <= V else strip_terms


class _Fused:
    """`strip_terms`, compiled at its first call: once for one row, once for any larger number."""

    def __init__(self):
        self.run: Strip = torch.compile(strip_terms, fullgraph=True)

    def __call__(self, formula: Formula, token_R: Tensor, student_RV: Tensor, contexts_RV: tuple[Tensor, ...]) -> RowTerms:
        from torch._dynamo import maybe_mark_dynamic
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        for tensor in (token_R, student_RV, *contexts_RV):
            maybe_mark_dynamic(tensor, 0)
        try:
            return self.run(formula, token_R, student_RV, contexts_RV)
        except (TorchDynamoException, FailOnRecompileLimitHit, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            log.warning("The loss runs uncompiled, which is slower: %s", reason)
            self.run = strip_terms
            return strip_terms(formula, token_R, student_RV, contexts_RV)


@cache
def _fused() -> _Fused:
    return _Fused()
