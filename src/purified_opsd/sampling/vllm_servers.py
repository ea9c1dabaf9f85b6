"""Completions by vLLM servers, one or many, near or far, that come and go."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import httpx

from purified_opsd.errors import ModelError, ServersLost
from purified_opsd.policy.model import Model, Policy, frozen

from .dispatcher import Dispatcher, ServerSlot
from .hf import eos_ids
from .logprob_check import logprob_check_of
from .sampler import Completion, Ids, OnDone, Sampling
from .vllm_client import Drawing, Unreachable, VLLMClient, Wanted
from .weight_sync import AdapterPublisher


@dataclass(frozen=True)
class VLLMServers:
    """vLLM servers, as `purified-opsd serve` starts them."""

    kind: ClassVar[str] = "vllm-server"
    library: ClassVar[str] = "vllm"

    urls: tuple[str, ...]
    """Such as http://127.0.0.1:8000; a request goes to the one with the fewest under way."""
    directory: Path | None = None
    """Where adapters are handed over; servers on other machines need one that they share.  null:
    /dev/shm where there is room.
    """
    key_variable: str = "VLLM_API_KEY"
    """The environment variable with the servers' key, which is written nowhere."""
    connect_seconds: float = 5.0
    read_seconds: float = 1800.0
    """The longest that one completion may take."""
    total_seconds: float = 3600.0
    """The longest that all completions of a step may take, further tries included."""
    max_attempts: int = 10
    """Of one completion."""

    def __post_init__(self):
        wrong = [url for url in self.urls if not _is_address(url)]
        if wrong or not self.urls or len(set(self.urls)) < len(self.urls):
            raise ValueError(
                "sampler.urls needs the addresses of servers, each once, such as "
                f"http://127.0.0.1:8000, got {list(self.urls)}."
            )
        if min(self.connect_seconds, self.read_seconds, self.total_seconds, self.max_attempts) <= 0:
            raise ValueError(
                "sampler needs connect_seconds, read_seconds, total_seconds and tries above 0, got "
                f"{self}."
            )

    def open(
        self, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
    ) -> "ServerSampler":
        """Raises ServersLost where a server does not answer, ModelError where it is not what it
        should be.
        """
        sampler = ServerSampler(self, policy, sampling, longest_prompt)
        asyncio.run(sampler.meet())
        return sampler


class ServerSampler:
    """Draws from servers that hold the base; the adapter is handed to them as a new one at every
    sync.
    """

    def __init__(
        self, settings: VLLMServers, policy: Policy, sampling: Sampling, longest_prompt: int
    ):
        self.settings, self.policy = settings, policy
        self.posts = [ServerSlot(VLLMClient(url.rstrip("/"))) for url in settings.urls]
        self.adapters = AdapterPublisher(settings.directory, policy.model)
        with frozen(policy.model):
            self.wanted = Wanted(logprob_check_of(policy), longest_prompt + sampling.max_new_tokens)
        V = len(self.wanted.base.log_prob_V)
        self.drawing = Drawing(sampling, eos_ids(policy.model).tolist(), settings.read_seconds, V)

    async def meet(self) -> None:
        """Looks at every server.  Raises ServersLost, ModelError."""
        async with self._round() as round:
            for post in self.posts:
                try:
                    await post.server.ready(round.client, self.wanted)
                except Unreachable as error:
                    raise ServersLost(
                        f"{post.server.url} does not answer: {error}. Start it with `purified-opsd "
                        "serve`, or correct its address."
                    ) from error

    def sync(self, step: int) -> None:
        """Servers that do not answer load the adapter when they are back.  Raises ModelError."""
        version, fingerprint = self.adapters.write(self.policy.model), logprob_check_of(self.policy)
        self.wanted = replace(self.wanted, version=version, fingerprint=fingerprint)
        asyncio.run(self._load())

    def generate(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """Raises ServersLost past a deadline, ModelError where a server turns out not to serve this
        student.
        """
        done: dict[int, Completion] = {}
        self.generate_each(prompts, seeds, done.__setitem__)
        return [done[i] for i in range(len(prompts))]

    def generate_each(self, prompts: Sequence[Ids], seeds: Sequence[int], on_done: OnDone) -> None:
        """Each as it comes.  Raises as `generate` does; what has come before stands."""
        asyncio.run(self._generate(prompts, seeds, on_done))

    async def _load(self) -> None:
        async with self._round() as round:
            await round.load()

    async def _generate(
        self, prompts: Sequence[Ids], seeds: Sequence[int], on_done: OnDone
    ) -> None:
        async with self._round() as round:

            async def complete(place: int, prompt: Ids, seed: int) -> None:
                on_done(place, await round.complete(prompt, seed, self.drawing))

            pairs = zip(prompts, seeds, strict=True)
            await asyncio.gather(
                *(complete(place, prompt, seed) for place, (prompt, seed) in enumerate(pairs))
            )

    @asynccontextmanager
    async def _round(self) -> AsyncIterator[Dispatcher]:
        headers, limit = _headers(self.settings.key_variable), self.settings.total_seconds
        timeout = httpx.Timeout(
            self.settings.connect_seconds
        )  # of a connection; a request has one of its own
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        try:
            async with asyncio.timeout(limit):
                async with httpx.AsyncClient(
                    headers=headers, timeout=timeout, limits=limits, trust_env=False
                ) as client:
                    yield Dispatcher(client, self.posts, self.wanted, self.settings.max_attempts)
        except TimeoutError as error:
            raise ServersLost(
                f"The servers were not done after {limit:g} s (sampler.total_seconds)."
            ) from error


def _headers(key_variable: str) -> dict[str, str]:
    key = os.environ.get(key_variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ModelError(
            f"The key in the environment variable {key_variable} has characters that no HTTP "
            "header can carry."
        )
    return {"Authorization": f"Bearer {key}"} if key else {}


def _is_address(url: str) -> bool:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return address.scheme in ("http", "https") and bool(address.host)
