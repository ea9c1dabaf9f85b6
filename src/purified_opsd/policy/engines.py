"""Where completions are drawn: what a run can name under `sampler`."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from .model import Model, Policy
from .sampling import HFSampler, Sampler, Sampling


@runtime_checkable
class Engine(Protocol):
    """Settings of a way to draw completions."""

    library: ClassVar[str]
    """What draws: the same seed means other random numbers in another."""

    def open(self, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int) -> Sampler:
        """A sampler of the policy, which was loaded from `model`.  Where the engine has weights of its own, it draws from the base
        until the first `sync`.

        Raises ModelError where the engine cannot serve this model or prompts so long, ServersLost where it does not answer.
        """
        ...


@dataclass(frozen=True)
class HF:
    """In this process, with the very model that is trained."""

    library: ClassVar[str] = "transformers"

    def open(self, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int) -> HFSampler:
        return HFSampler(policy.model, sampling)
