"""What a sampler is: prompts as token ids in, completions as token ids out, with the log-prob of
each sampled token.

`HFSampler`, `VLLMSampler` and `ServerSampler` are samplers; `HF`, `VLLM` and `VLLMServers` are the
settings that open them (engines.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from purified_opsd.storage.completions import FinishReason

Ids = Sequence[int]


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.  The defaults are the upstream code's; temperature 0 is greedy.

    Raises ValueError for values with which no token could be drawn.
    """

    temperature: float = 1.1
    """Divides the logits; 0 is greedy.  Source: upstream."""
    top_p: float = 0.95
    """The share of probability that is drawn from.  Source: upstream."""
    top_k: int = 20
    """The most likely tokens that are drawn from; 0: no limit.  Source: upstream."""
    max_new_tokens: int = 1024
    """Longest completion.  Source: the paper."""
    batch_size: int = 32
    """Sequences generated side by side."""

    def __post_init__(self):
        counts = self.top_k >= 0 and self.max_new_tokens >= 1 and self.batch_size >= 1
        if not (0 <= self.temperature < float("inf") and 0 < self.top_p <= 1 and counts):
            raise ValueError(
                "sampling needs temperature >= 0, top_p in (0, 1], top_k >= 0 (0: no limit), "
                f"max_new_tokens >= 1 and batch_size >= 1, got temperature={self.temperature}, "
                f"top_p={self.top_p}, top_k={self.top_k}, max_new_tokens={self.max_new_tokens}, "
                f"batch_size={self.batch_size}."
            )


@dataclass(frozen=True)
class Completion:
    """What the student wrote: every sampled token, the one that ended it included."""

    ids: list[int]
    log_probs: list[float]
    """Each token's, under the untempered student."""
    finish_reason: FinishReason
    """`stop`: it ended by itself; `length`: it was cut off at max_new_tokens."""


OnDone = Callable[[Mapping[int, Completion]], None]
"""Takes completions that are finished, by the index of their prompt."""


@runtime_checkable
class Sampler(Protocol):
    """Draws one completion a prompt.

    Row i depends on its prompt, its seed and the policy; on its neighbours in the batch only as far
    as they change the rounding of a matrix product.
    """

    def generate(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]: ...

    def generate_missing(
        self, prompts: Sequence[Ids], seeds: Sequence[int], missing: Sequence[int], on_done: OnDone
    ) -> None:
        """Draws the rows of a batch that `missing` lists, and hands them over.

        Here the whole batch is drawn again: each row then has the neighbours that it would have had
        without an interruption, and on CPU is the same, bit for bit.  A sampler whose rows have no
        neighbours draws the missing ones alone and hands over each as soon as it is finished.
        """
        completions = self.generate(prompts, seeds)
        on_done({index: completions[index] for index in missing})

    def sync(self, step: int) -> None:
        """Takes over the adapter as it is after `step` optimizer steps."""
        ...
