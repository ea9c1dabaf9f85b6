"""How far the student is from its target, per token.  N tokens, V rows of the head.

Each divergence is a formula, and a closed form of its value and of its gradient in the student's
logits z, where log_student = log_softmax(z).  p is the target, q the student.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .targets import LogProbs


class ValueAndGradient(NamedTuple):
    """A divergence per token and its gradient in the student's logits."""

    value: Float[Tensor, " N"]
    gradient: Float[Tensor, "N V"]


@runtime_checkable
class Divergence(Protocol):
    """D(student, target) per token, zero at equality."""

    def __call__(self, log_student: LogProbs, log_target: LogProbs) -> Float[Tensor, " N"]: ...

    def value_and_gradient(
        self, log_student: LogProbs, log_target: LogProbs
    ) -> ValueAndGradient: ...


def kl(log_p: LogProbs, log_q: LogProbs) -> Float[Tensor, " N"]:
    """KL(p ‖ q) = Σ_v p(v) (log p(v) − log q(v))."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@dataclass(frozen=True)
class JSD:
    """w·KL(target ‖ m) + (1−w)·KL(student ‖ m),  m = w·target + (1−w)·student.

    Takes the log-probs [N, V] of student and target; gives nats a token [N], from 0 to the entropy
    of w (log 2 where w is one half).  Raises ValueError unless 0 < weight < 1.

    The D_JSD of Eqs. 3 and 18; GKD, arXiv:2306.13649, Eq. 1.
    """

    kind: ClassVar[str] = "jsd"
    weight: float = 0.5
    """The target's share w of the mixture."""

    def __post_init__(self):
        if not 0 < self.weight < 1:
            raise ValueError(
                f"JSD.weight must lie strictly between 0 and 1, got {self.weight}: the divergence "
                "is zero at both ends. Use ForwardKL() for KL(target ‖ student) or ReverseKL() for "
                "KL(student ‖ target)."
            )

    @property
    def maximum(self) -> float:
        """−w·ln w − (1−w)·ln(1−w): student and target share no token; ln 2 at w = 0.5."""
        w = self.weight
        return -w * math.log(w) - (1 - w) * math.log1p(-w)

    def __call__(self, log_student: LogProbs, log_target: LogProbs) -> Float[Tensor, " N"]:
        w, log_m = self.weight, self._log_mixture(log_student, log_target)
        return w * kl(log_target, log_m) + (1 - w) * kl(log_student, log_m)

    def value_and_gradient(self, log_student: LogProbs, log_target: LogProbs) -> ValueAndGradient:
        """Gradient (1−w)·q·(log(q/m) − KL(q ‖ m))."""
        w, log_m = self.weight, self._log_mixture(log_student, log_target)
        q, log_ratio = log_student.exp(), log_student - log_m
        kl_student = (q * log_ratio).sum(-1)
        value = w * kl(log_target, log_m) + (1 - w) * kl_student
        return ValueAndGradient(value, (1 - w) * q * (log_ratio - kl_student[:, None]))

    def _log_mixture(self, log_student: LogProbs, log_target: LogProbs) -> LogProbs:
        mixture = self.weight * log_target.exp() + (1 - self.weight) * log_student.exp()
        # Where both probabilities vanish their share of the sums is zero, whatever the log is.
        return mixture.clamp(min=torch.finfo(mixture.dtype).tiny).log()


@dataclass(frozen=True)
class ForwardKL:
    """KL(target ‖ student): cover all that the target might say.

    Takes the log-probs [N, V] of student and target; gives nats a token [N].  The limit of JSD / w
    as w goes to 0; GKD, arXiv:2306.13649.
    """

    kind: ClassVar[str] = "forward-kl"
    maximum: ClassVar[float] = math.inf

    def __call__(self, log_student: LogProbs, log_target: LogProbs) -> Float[Tensor, " N"]:
        return kl(log_target, log_student)

    def value_and_gradient(self, log_student: LogProbs, log_target: LogProbs) -> ValueAndGradient:
        """Gradient q − p."""
        gradient = log_student.exp() - log_target.exp()
        return ValueAndGradient(self(log_student, log_target), gradient)


@dataclass(frozen=True)
class ReverseKL:
    """KL(student ‖ target): say only what the target would say.

    Takes the log-probs [N, V] of student and target; gives nats a token [N].  The limit of
    JSD / (1−w) as w goes to 1; GKD, arXiv:2306.13649.
    """

    kind: ClassVar[str] = "reverse-kl"
    maximum: ClassVar[float] = math.inf

    def __call__(self, log_student: LogProbs, log_target: LogProbs) -> Float[Tensor, " N"]:
        return kl(log_student, log_target)

    def value_and_gradient(self, log_student: LogProbs, log_target: LogProbs) -> ValueAndGradient:
        """Gradient q·(log(q/p) − KL(q ‖ p))."""
        q, log_ratio = log_student.exp(), log_student - log_target
        value = (q * log_ratio).sum(-1)
        return ValueAndGradient(value, q * (log_ratio - value[:, None]))
