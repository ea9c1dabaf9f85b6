"""A round of completions spread over servers, with further tries where one fails."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from purified_opsd.errors import ModelError, ServersLost

from .sampler import Completion, Ids
from .vllm_client import Drawing, Refused, Unreachable, VLLMClient, Wanted

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Before a server that failed is asked again; doubled each time."""


@dataclass
class ServerSlot:
    """A server, how much it has to do, and when it may be asked again."""

    server: VLLMClient
    in_flight: int = 0
    failures: int = 0
    """In a row."""
    ready_at: float = 0.0

    def failed(self, reason: str) -> None:
        self.server.forget()
        now = time.monotonic()
        if now < self.ready_at:  # of several requests that fail together the first counts
            return
        wait = min(FIRST_WAIT_S * 2**self.failures, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
        self.failures, self.ready_at = self.failures + 1, now + wait
        logger.warning("No completion of %s. It is asked again in %.1f s.", reason, wait)


class Dispatcher:
    """What is done with the servers between two syncs, in one event loop."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        posts: Sequence[ServerSlot],
        wanted: Wanted,
        max_attempts: int,
    ):
        self.client, self.posts, self.wanted, self.max_attempts = (
            client,
            posts,
            wanted,
            max_attempts,
        )
        self.locks = {post.server.url: asyncio.Lock() for post in posts}

    async def load(self) -> None:
        """Has every server that answers serve what is wanted.  Raises ModelError."""
        await asyncio.gather(*map(self._load, self.posts))

    async def complete(self, prompt: Ids, seed: int, drawing: Drawing) -> Completion:
        """One completion, from whichever server: its seed is its own, so another try draws the
        same.

        Raises ServersLost after the last try, ModelError where a server is not what it should be.
        """
        reason = ""
        for _ in range(self.max_attempts):
            post = await self._free()
            post.in_flight += 1
            try:
                model = await self._ready(post)
                completion = await post.server.complete(self.client, model, prompt, seed, drawing)
            except Unreachable as error:
                reason = f"{post.server.url}: {error}"
            except Refused as error:
                if error.status not in (
                    404,
                    500,
                ):  # 404: it was restarted and knows no such adapter
                    raise ModelError(
                        f"{post.server.url} refuses a prompt of {len(prompt)} tokens: {error}."
                    ) from error
                reason = f"{post.server.url}: {error}"
            else:
                post.failures = 0
                return completion
            finally:
                post.in_flight -= 1
            post.failed(reason)
        raise ServersLost(
            f"A completion was asked for {self.max_attempts} times (sampler.max_attempts) in vain, at last of "
            f"{reason}."
        )

    async def _load(self, post: ServerSlot) -> None:
        """Of one that has failed, later: with the first completion that is asked of it."""
        try:
            await self._ready(post)
        except (Unreachable, Refused) as error:
            post.failed(f"{post.server.url}: {error}")

    async def _ready(self, post: ServerSlot) -> str:
        """The name to ask for.  Where it fails one request, those that waited behind it go
        elsewhere at once.
        """
        async with self.locks[post.server.url]:
            if post.ready_at > time.monotonic():
                raise Unreachable("it has failed just now")
            return await post.server.ready(self.client, self.wanted)

    async def _free(self) -> ServerSlot:
        """Of the servers that may be asked, the one with the least to do; waits where none may."""
        while True:
            now = time.monotonic()
            ready = [post for post in self.posts if post.ready_at <= now]
            if ready:
                return min(ready, key=lambda post: post.in_flight)
            await asyncio.sleep(min(post.ready_at for post in self.posts) - now)
