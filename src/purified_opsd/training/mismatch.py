"""How far the sampler was from the student that is trained, and what is too far."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from purified_opsd.errors import OffPolicyError

from .rollouts import ScoredRollout

logger = logging.getLogger(__name__)

MEANING = (
    "The completions were not drawn from the student as it is. Look for a stale adapter (a server "
    "that keeps an earlier one), another base, dtype or chat template than the trainer's, or "
    "log-probs taken after the temperature (--logprobs-mode must be raw_logprobs). --sampler hf "
    "draws with the trained model itself."
)


@dataclass(frozen=True)
class LogProbMismatch:
    """|log π_θ| of the sampled tokens, sampler against trainer, over all tokens of a step, in nats:
    zero where it was on-policy.
    """

    mean: float
    p99: float
    share_above: float
    """The share of tokens where it is above 0.1."""


def mismatch_of(rollouts: Sequence[ScoredRollout]) -> LogProbMismatch:
    """Returns how far the sampler was from the trainer on these rollouts."""
    gaps = sorted(gap for rollout in rollouts for gap in rollout.log_prob_gaps)
    p99 = gaps[int(0.99 * (len(gaps) - 1))]
    return LogProbMismatch(fmean(gaps), p99, fmean(gap > 0.1 for gap in gaps))


@dataclass(frozen=True)
class MismatchLimits:
    """Limits of the mean mismatch, in nats a token.  In float32 it is 1e-5 or so; in bfloat16 it is
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

    def check(self, mismatch: LogProbMismatch, step: int) -> None:
        """Warns above `warn`.  Raises OffPolicyError above `stop`, and where the mismatch is not a
        number.
        """
        if mismatch.mean <= self.warn:
            return
        size = (
            f"In step {step} the sampler's log-probs of its own tokens are {mismatch.mean:.3g} "
            f"nats from the trainer's in the mean (99th percentile {mismatch.p99:.3g}; above 0.1 "
            f"for {mismatch.share_above:.0%} of the tokens)"
        )
        if mismatch.mean <= self.stop:
            logger.warning("%s: more than alarm.warn = %g. %s", size, self.warn, MEANING)
            return
        raise OffPolicyError(
            f"{size}: more than alarm.stop = {self.stop:g}, so the step was not taken. {MEANING}"
        )
