"""From logits to the loss's terms and its gradient, a strip of rows at a time, in place.

Matrix products want many rows at once, the elementwise part wants few: its intermediate results stay in the cache, and there is
never a second set of [chunk, V] buffers.  R rows of a strip, V rows of the head.
"""

from dataclasses import dataclass
from typing import NamedTuple

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
    """The PMI target of a linear head, from two products: W(h_T − h_ref) is Δ_it up to a constant a row, which Eq. 14 takes out
    together with the two log-normalisers (and the head's bias)."""

    target: PMITarget

    def log_target(self, *logits_RV: Tensor) -> LogProbs:
        signal_RV, base_RV = logits_RV
        return self.target.from_signal(self.tempered(signal_RV), self.tempered(base_RV))


class RowTerms(NamedTuple):
    """Of each row: its divergence, and the student's untempered log-prob of the sampled token."""

    divergence_R: Float[Tensor, " R"]
    log_prob_R: Float[Tensor, " R"]


def strip_terms(
    formula: Formula, token_R: Int[Tensor, " R"], student_RV: Float[Tensor, "R V"], contexts_RV: tuple[Tensor, ...]
) -> RowTerms:
    """The terms of a strip.  Overwrites the student's logits with the divergence's gradient in the tempered logits."""
    log_student_RV = formula.tempered(student_RV).log_softmax(-1)
    untempered_RV = log_student_RV if formula.temperature == 1 else student_RV.log_softmax(-1)
    log_prob_R = untempered_RV.gather(-1, token_R[:, None]).squeeze(-1)
    divergence_R, gradient_RV = formula.divergence.value_and_gradient(log_student_RV, formula.log_target(*contexts_RV))
    student_RV.copy_(gradient_RV)
    return RowTerms(divergence_R, log_prob_R)
