"""Target distributions that the student distils from, one function an equation of Section 3.

N completion tokens of a micro-batch, laid end to end; V rows of the head.  The three names below
say what an `[N, V]` tensor holds; the whole package uses them.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

LogProbs = Float[Tensor, "N V"]
"""Normalised log-distributions: the probabilities of each row sum to 1."""

UpToConstant = Float[Tensor, "N V"]
"""Values that count only up to a constant a row, as logits do: the softmax or the centring that
follows takes the constant out.
"""

Signal = Float[Tensor, "N V"]
"""Differences in nats, meant as they stand: a log-ratio of two distributions, or one that has been
centred, clipped or scaled.
"""


@runtime_checkable
class Target(Protocol):
    """A distribution made from what the frozen base says under the named contexts, whose
    log-distributions it takes in that order.
    """

    contexts: ClassVar[tuple[str, ...]]

    def __call__(self, *log_contexts: Any, **_: Any) -> LogProbs: ...


def pmi_signal(log_teacher: LogProbs, log_reference: LogProbs) -> Signal:
    """Δ_it(v) = log π_T(v) − log π_ref(v): what the question adds to the reference.  Eq. 13."""
    return log_teacher - log_reference


def center(delta: UpToConstant, rows: int | None = None) -> Signal:
    """Δ̄(v) = Δ(v) − mean_v Δ(v), the mean over every row of the head, or over its first `rows`.
    Eq. 14.
    """
    return delta - delta[:, :rows].mean(-1, keepdim=True)


def soft_clip(delta: Signal, clip: float) -> Signal:
    """Δ̃(v) = c·tanh(Δ̄(v)/c): the identity for |Δ̄| ≪ c, bounded by c.  Eq. 15."""
    return clip * torch.tanh(delta / clip)


def tilt(log_base: UpToConstant, reward: UpToConstant, beta: float) -> LogProbs:
    """log P*(v) = log P_0(v) + r(v)/β − log Z, the optimum of Eq. 7.  Eqs. 8, 16 and 17."""
    return (log_base + reward / beta).log_softmax(-1)


@dataclass(frozen=True)
class TeacherTarget:
    """Standard OPSD: the target is the privileged teacher itself, log-probs [N, V].  Eq. 3."""

    kind: ClassVar[str] = "teacher"
    contexts: ClassVar[tuple[str, ...]] = ("teacher",)

    def __call__(self, log_teacher: LogProbs) -> LogProbs:
        return log_teacher


@dataclass(frozen=True)
class PMITarget:
    """Purified OPSD: the target is the clean base, tilted by what the question adds to the
    reference.  Eqs. 13 to 17.

    Called with the log-probs [N, V] of teacher, reference and base, in nats; gives the target's.
    Raises ValueError for settings under which no target exists.
    """

    kind: ClassVar[str] = "pmi"
    beta: float = 1.0
    """Correction strength β; a larger one stays closer to the base.  Source: the paper."""
    clip: float = 10.0
    """Soft-clipping threshold c, in nats.  Source: the paper."""
    center_rows: int | None = None
    """Centre over the head's first rows only, for a head with more rows than the tokenizer has
    tokens; null: over all.
    """

    contexts: ClassVar[tuple[str, ...]] = ("teacher", "reference", "base")

    def __post_init__(self):
        if not (0 < self.beta < float("inf") and 0 < self.clip < float("inf")):
            raise ValueError(
                f"PMITarget needs finite beta > 0 and clip > 0, got beta={self.beta}, "
                f"clip={self.clip}. For a target closer to the base give a larger beta; for no "
                "clipping give a large clip, such as 1e6."
            )
        if self.center_rows is not None and self.center_rows < 1:
            raise ValueError(
                f"PMITarget.center_rows must be at least 1, got {self.center_rows}: it is the "
                "number of head rows whose mean is subtracted. Leave it out to centre over all of "
                "them."
            )

    def __call__(
        self, log_teacher: LogProbs, log_reference: LogProbs, log_base: LogProbs
    ) -> LogProbs:
        return self.from_signal(pmi_signal(log_teacher, log_reference), log_base)

    def from_signal(self, delta: UpToConstant, log_base: UpToConstant) -> LogProbs:
        """The target of a signal Δ_it and the base's log-probs or logits.  Eqs. 14 to 17.

        Centring absorbs a constant in the signal, the softmax one in the base.
        """
        centered = center(delta, self.center_rows)
        clipped = soft_clip(centered, self.clip)
        return tilt(log_base, clipped, self.beta)
