"""How far the sampler was from the student that is trained, and what is too far."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from purified_opsd.errors import OffPolicyError

from .rollouts import ScoredRollout

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogProbMismatch:
    """|log π_θ| of the sampled tokens, sampler against trainer, over all tokens of a step, in nats:
    zero where it was on-policy.
    """

    mean: float
    p99: float
    above: float
    """The share of tokens where it is above 0.1."""


def mismatch_of(trajectories: Sequence[ScoredRollout]) -> LogProbMismatch:
    gaps = sorted(gap for trajectory in trajectories for gap in trajectory.gap)
    return LogProbMismatch(
        fmean(gaps), gaps[int(0.99 * (len(gaps) - 1))], fmean(gap > 0.1 for gap in gaps)
    )


@dataclass(frozen=True)
class MismatchLimits:
    """Limits of the mean gap, in nats a token.  In float32 it is 1e-5 or so; in bfloat16 it is
    larger.
    """

    warn: float = 0.05
    """Above it the step is taken and a warning given."""
    stop: float = 0.3
    """Above it the step is not taken, and the run saves itself and ends."""

    def __post_init__(self):
        if not 0 < self.warn <= self.stop:
            raise ValueError(
                f"alarm needs 0 < warn <= stop, got warn={self.warn}, stop={self.stop}. For none "
                "give both as inf."
            )

    def check(self, gap: LogProbMismatch, step: int) -> None:
        """Raises OffPolicy above `stop`, and where the gap is not a number."""
        if gap.mean <= self.warn:
            return
        found = (
            f"In step {step} the sampler's log-probs of its own tokens are {gap.mean:.3g} nats "
            f"from the trainer's in the mean (99th percentile {gap.p99:.3g}; above 0.1 for "
            f"{gap.above:.0%} of the tokens)"
        )
        if gap.mean <= self.stop:
            logger.warning("%s: more than alarm.warn = %g. %s", found, self.warn, MEANING)
            return
        raise OffPolicyError(
            f"{found}: more than alarm.stop = {self.stop:g}, so the step was not taken. {MEANING}"
        )


MEANING = (
    "The completions were not drawn from the student as it is. Look for a stale adapter (a server "
    "that keeps an earlier one), another base, dtype or chat template than the trainer's, or "
    "log-probs taken after the temperature (--logprobs-mode must be raw_logprobs). --sampler hf "
    "draws with the trained model itself."
)
