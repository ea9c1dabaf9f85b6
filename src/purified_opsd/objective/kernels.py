"""From logits to the loss's terms and its gradient, a strip of rows at a time, in place.

Matrix products want many rows at once, the elementwise part wants few: its intermediate results
stay in the cache, and there is never a second set of [chunk, V] buffers.  R rows of a strip, V rows
of the head.

How the elementwise part of the loss is run: compiled, or operation by operation.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .divergences import Divergence
from .targets import LogProbs, PMITarget, Target


@dataclass(frozen=True)
class Formula:
    """What is computed for every row: the settings of the loss."""

    target: Target
    divergence: Divergence
    temperature: float

    def log_target(self, *logits_RV: Tensor) -> LogProbs:
        """From the logits of each of the target's contexts."""
        return self.target(*(self.tempered(logits).log_softmax(-1) for logits in logits_RV))

    def tempered(self, logits_RV: Tensor) -> Tensor:
        return logits_RV if self.temperature == 1 else logits_RV / self.temperature


@dataclass(frozen=True)
class PMIFormula(Formula):
    """The PMI target of a linear head, from two products: W(h_T − h_ref) is Δ_it up to a constant a
    row, which Eq. 14 takes out together with the two log-normalisers (and the head's bias).
    """

    target: PMITarget

    def log_target(self, *logits_RV: Tensor) -> LogProbs:
        signal_RV, base_RV = logits_RV
        return self.target.from_signal(self.tempered(signal_RV), self.tempered(base_RV))


class RowTerms(NamedTuple):
    """Of each row: its divergence, and the student's untempered log-prob of the sampled token."""

    divergence_R: Float[Tensor, " R"]
    log_prob_R: Float[Tensor, " R"]


def tile_terms(
    formula: Formula,
    token_R: Int[Tensor, " R"],
    student_RV: Float[Tensor, "R V"],
    contexts_RV: tuple[Tensor, ...],
) -> RowTerms:
    """The terms of a strip.  Overwrites the student's logits with the divergence's gradient in the
    tempered logits.
    """
    log_student_RV = formula.tempered(student_RV).log_softmax(-1)
    untempered_RV = log_student_RV if formula.temperature == 1 else student_RV.log_softmax(-1)
    log_prob_R = untempered_RV.gather(-1, token_R[:, None]).squeeze(-1)
    divergence_R, gradient_RV = formula.divergence.value_and_gradient(
        log_student_RV, formula.log_target(*contexts_RV)
    )
    student_RV.copy_(gradient_RV)
    return RowTerms(divergence_R, log_prob_R)


pass

log = logging.getLogger(__name__)

Strip = Callable[[Formula, Tensor, Tensor, tuple[Tensor, ...]], RowTerms]


@runtime_checkable
class Kernels(Protocol):
    """How the elementwise part is run."""

    def __call__(self, V: int) -> Strip:
        """Something that does what `tile_terms` does, for a head of V rows."""
        ...


@dataclass(frozen=True)
class Eager:
    """Operation by operation, as the formulas are written."""

    kind: ClassVar[str] = "eager"

    def __call__(self, V: int) -> Strip:
        return tile_terms


@dataclass(frozen=True)
class Compiled:
    """Fused by torch.compile.  Where no compiler works the formulas run as they are written, and
    the log says so once.
    """

    kind: ClassVar[str] = "compiled"
    least_rows: int = 2**14
    """Heads with fewer rows than this run operation by operation: compiling takes longer than it
    would ever save.
    """

    def __post_init__(self):
        if self.least_rows < 0:
            raise ValueError(
                f"kernels.least_rows must be at least 0, got {self.least_rows}. Give eager to "
                "compile nothing."
            )

    def __call__(self, V: int) -> Strip:
        return _fused() if self.least_rows <= V else tile_terms


class _Fused:
    """`tile_terms`, compiled at its first call: once for one row, once for any larger number."""

    def __init__(self):
        self.run: Strip = torch.compile(tile_terms, fullgraph=True)

    def __call__(
        self, formula: Formula, token_R: Tensor, student_RV: Tensor, contexts_RV: tuple[Tensor, ...]
    ) -> RowTerms:
        from torch._dynamo import maybe_mark_dynamic
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        for tensor in (token_R, student_RV, *contexts_RV):
            maybe_mark_dynamic(tensor, 0)
        try:
            return self.run(formula, token_R, student_RV, contexts_RV)
        except (TorchDynamoException, FailOnRecompileLimitHit, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            log.warning("The loss runs uncompiled, which is slower: %s", reason)
            self.run = tile_terms
            return tile_terms(formula, token_R, student_RV, contexts_RV)


@cache
def _fused() -> _Fused:
    return _Fused()
