"""The elementwise part of the loss: from a tile's logits to its terms and its gradient, in place.

R rows of a tile, V rows of the head.  Matrix products want many tokens at once, elementwise work
wants few: the dozen [R, V] intermediate results of a tile stay in the cache, and there is never a
second set of [chunk, V] buffers.  A tile is run compiled, or operation by operation.
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
from .targets import LogProbs, PMITarget, Target, UpToConstant

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenLoss:
    """What is computed of every token: its target and its divergence, from logits that are divided
    by a temperature first.
    """

    target: Target
    divergence: Divergence
    temperature: float

    def log_target(self, *contexts_RV: UpToConstant) -> LogProbs:
        """Returns the target, from the logits of each of its contexts."""
        return self.target(*(self.tempered(logits).log_softmax(-1) for logits in contexts_RV))

    def tempered(self, logits_RV: UpToConstant) -> UpToConstant:
        return logits_RV if self.temperature == 1 else logits_RV / self.temperature


@dataclass(frozen=True)
class LinearPMILoss(TokenLoss):
    """The same for the PMI target behind a linear head W, from two products where the formulas take
    three.

    W(h_T − h_ref) is Δ_it up to a constant a row, the difference of two log-normalisers, and Eq. 14
    subtracts the mean of the row, constant and all.  Likewise W h_0 is log π_0 up to its
    log-normaliser, which the softmax of Eq. 16 takes out.
    """

    target: PMITarget

    def log_target(self, *contexts_RV: UpToConstant) -> LogProbs:
        signal_RV, base_RV = contexts_RV
        return self.target.from_signal(self.tempered(signal_RV), self.tempered(base_RV))


class TileTerms(NamedTuple):
    """Of each row of a tile: its divergence, and the student's untempered log-prob of the sampled
    token.
    """

    divergence_R: Float[Tensor, " R"]
    log_prob_R: Float[Tensor, " R"]


def tile_terms(
    token_loss: TokenLoss,
    token_R: Int[Tensor, " R"],
    student_RV: UpToConstant,
    contexts_RV: tuple[Tensor, ...],
) -> TileTerms:
    """Computes the terms of a tile, and overwrites the student's logits with the divergence's
    gradient in the tempered logits.
    """
    log_student_RV = token_loss.tempered(student_RV).log_softmax(-1)
    is_tempered = token_loss.temperature != 1
    untempered_RV = student_RV.log_softmax(-1) if is_tempered else log_student_RV
    log_prob_R = untempered_RV.gather(-1, token_R[:, None]).squeeze(-1)
    log_target_RV = token_loss.log_target(*contexts_RV)
    divergence_R, gradient_RV = token_loss.divergence.value_and_gradient(
        log_student_RV, log_target_RV
    )
    student_RV.copy_(gradient_RV)
    return TileTerms(divergence_R, log_prob_R)


TileKernel = Callable[[TokenLoss, Tensor, Tensor, tuple[Tensor, ...]], TileTerms]
"""Something that does what `tile_terms` does."""


@runtime_checkable
class Kernels(Protocol):
    """How the elementwise part is run."""

    def __call__(self, V: int) -> TileKernel:
        """Returns the kernel for a head of V rows."""
        ...


@dataclass(frozen=True)
class Eager:
    """Operation by operation, as the formulas are written."""

    kind: ClassVar[str] = "eager"

    def __call__(self, V: int) -> TileKernel:
        return tile_terms


@dataclass(frozen=True)
class Compiled:
    """Fused by torch.compile.  Where no compiler works the formulas run as they are written, and
    the log says so once.
    """

    kind: ClassVar[str] = "compiled"
    min_head_rows: int = 2**14
    """Heads with fewer rows than this run operation by operation: compiling takes longer than it
    would ever save.
    """

    def __post_init__(self):
        if self.min_head_rows < 0:
            raise ValueError(
                f"kernels.min_head_rows must be at least 0, got {self.min_head_rows}. Give eager "
                "to compile nothing."
            )

    def __call__(self, V: int) -> TileKernel:
        return _compiled_kernel() if self.min_head_rows <= V else tile_terms


class _CompiledKernel:
    """`tile_terms`, compiled at its first call: once for one row, once for any larger number."""

    def __init__(self):
        self.run: TileKernel = torch.compile(tile_terms, fullgraph=True)

    def __call__(
        self,
        token_loss: TokenLoss,
        token_R: Tensor,
        student_RV: Tensor,
        contexts_RV: tuple[Tensor, ...],
    ) -> TileTerms:
        from torch._dynamo import maybe_mark_dynamic
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        # The last tile of a chunk is shorter: one graph serves every number of rows.
        for tensor in (token_R, student_RV, *contexts_RV):
            maybe_mark_dynamic(tensor, 0)
        try:
            return self.run(token_loss, token_R, student_RV, contexts_RV)
        except (TorchDynamoException, FailOnRecompileLimitHit, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            log.warning("The loss runs uncompiled, which is slower: %s", reason)
            self.run = tile_terms
            return tile_terms(token_loss, token_R, student_RV, contexts_RV)


@cache
def _compiled_kernel() -> _CompiledKernel:
    """One for the whole process, so that it compiles once."""
    return _CompiledKernel()
