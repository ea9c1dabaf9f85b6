"""Completions by vLLM servers, one or many, near or far, that come and go."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from purified_opsd.errors import ModelError, ServersLost
from purified_opsd.policy.model import Policy, frozen
from purified_opsd.policy.turn_end import eos_ids

from .dispatcher import Dispatcher, ServerSlot
from .drawing import report_drawn
from .engines import VLLMServers
from .logprob_check import logprob_check_of
from .sampler import Completion, Ids, OnDone, Sampler, Sampling
from .vllm_api import ServerUnreachable
from .vllm_client import GenerationSettings, ServingRequirements, VLLMClient
from .weight_sync import AdapterPublisher


class ServerSampler(Sampler):
    """Draws from servers that hold the base; at every sync they load the adapter as a new one."""

    def __init__(
        self, settings: VLLMServers, policy: Policy, sampling: Sampling, longest_prompt: int
    ):
        self.settings = settings
        self.policy = policy
        self.slots = [ServerSlot(VLLMClient(url.rstrip("/"))) for url in settings.urls]
        self.publisher = AdapterPublisher(settings.directory, policy.model)
        with frozen(policy.model):
            base_check = logprob_check_of(policy)
        max_tokens = longest_prompt + sampling.max_new_tokens
        self.required = ServingRequirements(base_check, max_tokens)
        self.generation = GenerationSettings(
            sampling,
            eos=eos_ids(policy.base),
            timeout_s=settings.read_seconds,
            V=len(base_check.log_prob_V),
        )

    async def check_servers(self) -> None:
        """Raises ServersLost where a server does not answer, ModelError where it is not what it
        should be.
        """
        async with self._dispatcher() as dispatcher:
            for slot in self.slots:
                try:
                    await slot.server.ensure_ready(dispatcher.client, self.required)
                except ServerUnreachable as error:
                    raise ServersLost(
                        f"{slot.server.url} does not answer: {error}. Start it with `purified-opsd "
                        "serve`, or correct its address."
                    ) from error

    def sync(self, step: int) -> None:
        """Servers that do not answer load the adapter when they are back.  Raises ModelError."""
        adapter = self.publisher.publish(self.policy.model)
        check = logprob_check_of(self.policy)
        self.required = replace(self.required, adapter=adapter, adapter_check=check)
        asyncio.run(self._load())

    def generate(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """Raises ServersLost past a deadline, ModelError where a server turns out not to serve this
        student.
        """
        completions: dict[int, Completion] = {}
        self.generate_missing(prompts, seeds, range(len(prompts)), completions.update)
        return [completions[index] for index in range(len(prompts))]

    def generate_missing(
        self, prompts: Sequence[Ids], seeds: Sequence[int], missing: Sequence[int], on_done: OnDone
    ) -> None:
        """Draws the missing ones alone and hands over each as it comes.  Raises as `generate` does;
        what was handed over before stands.
        """
        asyncio.run(self._generate(prompts, seeds, missing, on_done))

    async def _load(self) -> None:
        async with self._dispatcher() as dispatcher:
            await dispatcher.load()

    async def _generate(
        self, prompts: Sequence[Ids], seeds: Sequence[int], missing: Sequence[int], on_done: OnDone
    ) -> None:
        async with self._dispatcher() as dispatcher:

            async def complete(index: int) -> None:
                completion = await dispatcher.complete(
                    prompts[index], seeds[index], self.generation
                )
                report_drawn(len(completion.ids), ended=1)
                on_done({index: completion})

            await asyncio.gather(*map(complete, missing))

    @asynccontextmanager
    async def _dispatcher(self) -> AsyncIterator[Dispatcher]:
        """A dispatcher that works until `total_seconds` are over; then ServersLost is raised."""
        settings = self.settings
        client = httpx.AsyncClient(
            headers=_headers(settings.key_variable),
            timeout=httpx.Timeout(settings.connect_seconds),  # a request brings its own for reading
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=False,
        )
        try:
            async with asyncio.timeout(settings.total_seconds), client:
                yield Dispatcher(client, self.slots, self.required, settings.max_attempts)
        except TimeoutError as error:
            raise ServersLost(
                f"The servers were not done after {settings.total_seconds:g} s "
                "(sampler.total_seconds)."
            ) from error


def _headers(key_variable: str) -> dict[str, str]:
    key = os.environ.get(key_variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ModelError(
            f"The key in the environment variable {key_variable} has characters that no HTTP "
            "header can carry."
        )
    return {"Authorization": f"Bearer {key}"} if key else {}
