"""The ways to draw completions, as settings.  Each imports what draws when it is opened."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable
from urllib.parse import urlsplit

from purified_opsd.policy.model import Model, Policy

from .sampler import Sampler, Sampling

if TYPE_CHECKING:
    from .hf import HFSampler
    from .vllm_engine import VLLMSampler
    from .vllm_servers import ServerSampler


@runtime_checkable
class Engine(Protocol):
    """Settings of a way to draw completions."""

    library: ClassVar[str]
    """What draws: another library draws other completions from the same seed."""

    def open(
        self, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
    ) -> Sampler:
        """Returns a sampler of the policy, which was loaded from `model`.  An engine that holds
        weights of its own draws from the base until the first `sync`.

        Raises ModelError where the engine cannot serve this model or prompts so long, ServersLost
        where it does not answer.
        """
        ...


@dataclass(frozen=True)
class HF:
    """In this process, with the very model that is trained."""

    kind: ClassVar[str] = "hf"
    library: ClassVar[str] = "transformers"

    def open(
        self, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
    ) -> "HFSampler":
        from .hf import HFSampler

        return HFSampler(policy.model, sampling)


@dataclass(frozen=True)
class VLLM:
    """A vLLM engine in this process, with a copy of the base of its own."""

    kind: ClassVar[str] = "vllm"
    library: ClassVar[str] = "vllm"

    memory_fraction: float = 0.4
    """Of the GPU's memory, for the engine's base and cache; between rollouts the base waits in CPU
    memory and the card is free.
    """
    directory: Path | None = None
    """Where adapters are published.  null: /dev/shm where there is room."""

    def __post_init__(self):
        if not 0 < self.memory_fraction < 1:
            raise ValueError(
                f"sampler.memory_fraction must be between 0 and 1, got {self.memory_fraction}. The "
                "default is 0.4."
            )

    def open(
        self, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
    ) -> "VLLMSampler":
        """Raises ModelError where vLLM is not installed, cannot load the base, or loads another."""
        from .vllm_engine import open_engine

        return open_engine(self, model, policy, sampling, longest_prompt)


@dataclass(frozen=True)
class VLLMServers:
    """vLLM servers, as `purified-opsd serve` starts them."""

    kind: ClassVar[str] = "vllm-server"
    library: ClassVar[str] = "vllm"

    urls: tuple[str, ...]
    """Such as http://127.0.0.1:8000; a request goes to the one with the fewest in flight."""
    directory: Path | None = None
    """Where adapters are published; servers on other machines need one that they share.  null:
    /dev/shm where there is room.
    """
    key_variable: str = "VLLM_API_KEY"
    """The environment variable with the servers' key, which is written nowhere."""
    connect_seconds: float = 5.0
    """The longest that a server may take to accept a connection."""
    read_seconds: float = 1800.0
    """The longest that one completion may take."""
    total_seconds: float = 3600.0
    """The longest that all completions of a step may take, further attempts included."""
    max_attempts: int = 10
    """How often one completion is asked for."""

    def __post_init__(self):
        addresses = all(map(_is_address, self.urls))
        if not (addresses and self.urls and len(set(self.urls)) == len(self.urls)):
            raise ValueError(
                "sampler.urls needs the addresses of servers, each once, such as "
                f"http://127.0.0.1:8000, got {list(self.urls)}."
            )
        limits = (self.connect_seconds, self.read_seconds, self.total_seconds, self.max_attempts)
        if min(limits) <= 0:
            raise ValueError(
                "sampler needs connect_seconds, read_seconds, total_seconds and max_attempts above "
                f"0, got {self}."
            )

    def open(
        self, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
    ) -> "ServerSampler":
        """Raises ServersLost where a server does not answer, ModelError where it is not what it
        should be.
        """
        from .vllm_servers import ServerSampler

        sampler = ServerSampler(self, policy, sampling, longest_prompt)
        asyncio.run(sampler.check_servers())
        return sampler


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        port = address.port
    except ValueError:
        return False
    whole = len(url.split()) == 1 and port != 0
    return whole and address.scheme in ("http", "https") and bool(address.hostname)
