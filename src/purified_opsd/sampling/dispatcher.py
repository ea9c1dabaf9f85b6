"""Completions spread over servers, with another attempt where one fails."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from purified_opsd.errors import ModelError, ServersLost

from .sampler import Completion, Ids
from .vllm_api import RequestRefused, ServerUnreachable
from .vllm_client import GenerationSettings, ServingRequirements, VLLMClient

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 60.0
"""How long a server that failed is left alone; doubled with each failure in a row."""
RETRIED_REFUSALS = (404, 500)
"""Statuses of a server that was restarted and knows no such adapter, or whose engine failed."""


@dataclass
class ServerSlot:
    """A server, how many requests it has, and when it may be asked again."""

    server: VLLMClient
    in_flight: int = 0
    failures: int = 0
    """In a row."""
    retry_at: float = 0.0

    def mark_failed(self, reason: str) -> None:
        self.server.forget()
        now = time.monotonic()
        if now < self.retry_at:  # of several requests that fail together the first counts
            return
        backoff = min(FIRST_BACKOFF_S * 2**self.failures, MAX_BACKOFF_S)
        wait = backoff * random.uniform(0.5, 1.0)
        self.failures += 1
        self.retry_at = now + wait
        logger.warning("No completion of %s. It is asked again in %.1f s.", reason, wait)


class Dispatcher:
    """Sends the requests of one event loop to the servers, all for the same weights."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        slots: Sequence[ServerSlot],
        required: ServingRequirements,
        max_attempts: int,
    ):
        self.client = client
        self.slots = slots
        self.required = required
        self.max_attempts = max_attempts
        self.locks = {slot.server.url: asyncio.Lock() for slot in slots}

    async def load(self) -> None:
        """Has every server that answers serve what is required.  Raises ModelError."""
        await asyncio.gather(*map(self._load, self.slots))

    async def complete(self, prompt: Ids, seed: int, settings: GenerationSettings) -> Completion:
        """Returns one completion, from whichever server: its seed is its own, so another attempt
        draws the same.

        Raises ServersLost after the last attempt, ModelError where a server is not what it should
        be.
        """
        reason = ""
        for _ in range(self.max_attempts):
            slot = await self._free_slot()
            url = slot.server.url
            slot.in_flight += 1
            try:
                model = await self._ensure_ready(slot)
                completion = await slot.server.complete(self.client, model, prompt, seed, settings)
            except ServerUnreachable as error:
                reason = f"{url}: {error}"
            except RequestRefused as error:
                if error.status not in RETRIED_REFUSALS:
                    raise ModelError(
                        f"{url} refuses a prompt of {len(prompt)} tokens: {error}."
                    ) from error
                reason = f"{url}: {error}"
            else:
                slot.failures = 0
                return completion
            finally:
                slot.in_flight -= 1
            slot.mark_failed(reason)
        raise ServersLost(
            f"A completion was asked for {self.max_attempts} times (sampler.max_attempts) in vain, "
            f"at last of {reason}."
        )

    async def _load(self, slot: ServerSlot) -> None:
        """A server that fails here gets its weights later, with the first request it is sent."""
        try:
            await self._ensure_ready(slot)
        except (ServerUnreachable, RequestRefused) as error:
            slot.mark_failed(f"{slot.server.url}: {error}")

    async def _ensure_ready(self, slot: ServerSlot) -> str:
        """Returns the model's name to ask for.  Where the server fails one request, those that
        waited behind it go elsewhere at once.
        """
        async with self.locks[slot.server.url]:
            if slot.retry_at > time.monotonic():
                raise ServerUnreachable("it has failed just now")
            return await slot.server.ensure_ready(self.client, self.required)

    async def _free_slot(self) -> ServerSlot:
        """Of the servers that may be asked, the one with the fewest requests in flight; waits where
        none may be asked.
        """
        while True:
            now = time.monotonic()
            ready = [slot for slot in self.slots if slot.retry_at <= now]
            if ready:
                return min(ready, key=lambda slot: slot.in_flight)
            await asyncio.sleep(min(slot.retry_at for slot in self.slots) - now)
