"""What a training step keeps of each sampled completion."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from purified_opsd.data.dataset import Example
from purified_opsd.data.prompts import Contexts
from purified_opsd.objective.chunked_loss import LossTerms
from purified_opsd.sampling.sampler import Completion


@dataclass(frozen=True)
class Rollout:
    """One question of the batch and what the student wrote to it."""

    index: int
    """Its index in the step's global batch."""
    example: Example
    prompts: Contexts
    seed: int
    completion: Completion

    @property
    def tokens(self) -> int:
        """The tokens of question and completion together."""
        return len(self.prompts.base) + len(self.completion.ids)


@dataclass(frozen=True)
class ScoredRollout:
    """What is kept of a rollout and sent to the process that records: ids and log-probs, not the
    teacher's long prompts.
    """

    index: int
    """Its index in the step's global batch."""
    id: str
    """The example's id."""
    prompt_ids: list[int]
    """The question's prompt."""
    cut: bool
    """Whether its reference was shortened."""
    seed: int
    completion: Completion
    weight: float
    """The weight of each of its tokens in the loss of the global batch."""
    divergence: list[float]
    """The divergence at each of its tokens."""
    log_probs: list[float]
    """The trainer's log-prob of each sampled token; `completion.log_probs` are the sampler's."""

    @property
    def log_prob_gaps(self) -> list[float]:
        """|log π_θ| sampler against trainer, per token: zero if the rollout was on-policy."""
        pairs = zip(self.completion.log_probs, self.log_probs, strict=True)
        return [abs(sampler - trainer) for sampler, trainer in pairs]


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did: the rollouts of all processes, in the order of the batch."""

    rollouts: list[ScoredRollout]
    grad_norm: float
    """The norm of the gradient before clipping."""
    learning_rate: float
    seconds: dict[str, float]
    """The seconds that each part of the step took."""
    decompositions: list[dict[str, float]]
    """The teacher's pull on some of the completions, as far as the run asks for it."""


def batch_index_N(rollouts: Sequence[Rollout]) -> Int[Tensor, " N"]:
    """Returns, for each completion token laid end to end, the index of its sequence in the global
    batch.
    """
    index_B = torch.tensor([rollout.index for rollout in rollouts])
    length_B = torch.tensor([len(rollout.completion.ids) for rollout in rollouts])
    return index_B.repeat_interleave(length_B)


def score_rollouts(
    rollouts: Sequence[Rollout], weight_N: Float[Tensor, " N"], terms: LossTerms
) -> list[ScoredRollout]:
    """Gives each rollout of a micro-batch its part of the loss terms, which are laid end to end."""
    lengths = [len(rollout.completion.ids) for rollout in rollouts]
    weights = weight_N.split(lengths)
    divergences = terms.divergence_N.split(lengths)
    log_probs = terms.log_prob_N.split(lengths)
    return [
        ScoredRollout(
            index=rollout.index,
            id=rollout.example.id,
            prompt_ids=rollout.prompts.base,
            cut=rollout.prompts.cut,
            seed=rollout.seed,
            completion=rollout.completion,
            weight=weight_T[0].item(),
            divergence=divergence_T.tolist(),
            log_probs=log_prob_T.tolist(),
        )
        for rollout, weight_T, divergence_T, log_prob_T in zip(
            rollouts, weights, divergences, log_probs, strict=True
        )
    ]
