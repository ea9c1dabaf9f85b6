"""What a training step leaves of each sampled completion."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from purified_opsd.data.dataset import Example
from purified_opsd.data.prompts import Contexts
from purified_opsd.objective.chunked_loss import LossTerms
from purified_opsd.sampling.sampler import Completion


@dataclass(frozen=True)
class Rollout:
    """One question of the batch and what the student wrote to it."""

    place: int
    """Its place in the step's global batch."""
    example: Example
    prompts: Contexts
    seed: int
    completion: Completion

    @property
    def tokens(self) -> int:
        """Of question and completion together."""
        return len(self.prompts.base) + len(self.completion.ids)


@dataclass(frozen=True)
class ScoredRollout:
    """What is kept of a rollout and sent to the process that records: ids and log-probs, not the
    teacher's long prompts.
    """

    place: int
    id: str
    question: list[int]
    cut: bool
    """Its reference was shortened."""
    seed: int
    completion: Completion
    weight: float
    """Of each of its tokens in the loss of the global batch."""
    divergence: list[float]
    log_probs: list[float]
    """The trainer's, of the sampled tokens; `completion.log_probs` are the sampler's."""

    @property
    def gap(self) -> list[float]:
        """|log π_θ| sampler against trainer, per token: zero if the rollout was really on-policy."""
        return [abs(a - b) for a, b in zip(self.completion.log_probs, self.log_probs, strict=True)]


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did: the trajectories of all processes, in the order of the batch."""

    trajectories: list[ScoredRollout]
    grad_norm: float
    learning_rate: float
    seconds: dict[str, float]
    decompositions: list[dict[str, float]]
    """The teacher's pull on some of the completions, as far as the run asks for it."""


def scored_rollouts(
    rollouts: Sequence[Rollout], weights: Iterable[float], terms: LossTerms
) -> list[ScoredRollout]:
    """The terms of a micro-batch, laid end to end, given back to their rollouts."""
    lengths = [len(rollout.completion.ids) for rollout in rollouts]
    divergences, log_probs = terms.divergence_N.split(lengths), terms.log_prob_N.split(lengths)
    return [
        ScoredRollout(
            place=rollout.place,
            id=rollout.example.id,
            question=rollout.prompts.base,
            cut=rollout.prompts.cut,
            seed=rollout.seed,
            completion=rollout.completion,
            weight=weight,
            divergence=divergence.tolist(),
            log_probs=log_prob.tolist(),
        )
        for rollout, weight, divergence, log_prob in zip(
            rollouts, weights, divergences, log_probs, strict=True
        )
    ]
