"""The client of one vLLM server: what the server must serve, and what makes its answers count."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from purified_opsd.errors import ModelError

from .logprob_check import LogProbCheck
from .sampler import Completion, Ids, Sampling
from .vllm_api import (
    INSTALL_VLLM,
    MALFORMED,
    RequestRefused,
    ServerUnreachable,
    completion_request,
    read_completion_answer,
    read_top_log_probs,
    send,
    top_log_probs_request,
)
from .weight_sync import AdapterVersion


@dataclass(frozen=True)
class ServingRequirements:
    """What a server must serve before any token of it counts."""

    base_check: LogProbCheck
    max_tokens: int
    """The longest prompt and its completion together."""
    adapter: AdapterVersion | None = None
    """None: the base alone."""
    adapter_check: LogProbCheck | None = None
    """The check of the policy with that adapter."""


@dataclass(frozen=True)
class GenerationSettings:
    """How a server draws completions."""

    sampling: Sampling
    eos: Sequence[int]
    """The tokens that end a completion."""
    timeout_s: float
    """The longest that one completion may take."""
    V: int
    """Rows of the head: every token's id is below."""


class VLLMClient:
    """A server, with what is known of it since it was last seen."""

    def __init__(self, url: str):
        self.url = url
        self.base: str | None = None
        """The server's name for the base; None until the server has been checked."""
        self.serves: str | None = None
        """The name of the adapter that the server was found to serve."""
        self.loaded: str | None = None
        """The name of the adapter that the server was last told to load."""

    def forget(self) -> None:
        """After this the server is checked again before any token counts: it may have been
        restarted, with anything.
        """
        self.base = self.serves = None

    async def ensure_ready(self, client: httpx.AsyncClient, required: ServingRequirements) -> str:
        """Has the server serve what is required; returns the model's name to ask for.  Raises
        ModelError, ServerUnreachable.
        """
        if self.base is None:
            self.base = await self._check_base(client, required)
        if required.adapter is None or required.adapter_check is None:
            return self.base
        if self.serves != required.adapter.name:
            await self._switch_adapter(client, self.base, required.adapter, required.adapter_check)
        return required.adapter.name

    async def complete(
        self,
        client: httpx.AsyncClient,
        model: str,
        prompt: Ids,
        seed: int,
        settings: GenerationSettings,
    ) -> Completion:
        """Returns one completion by the model of that name.  Raises ModelError, ServerUnreachable,
        RequestRefused.
        """
        sampling = settings.sampling
        body = completion_request(model, prompt, seed, sampling, settings.eos)
        response = await send(client, self.url, "/v1/completions", body, settings.timeout_s)
        with self._reading(response):
            answer = read_completion_answer(response, settings.V)
        if answer.model != model or answer.prompt != list(prompt):
            raise ModelError(
                f"{self.url} has answered for {answer.model} after {len(answer.prompt)} prompt "
                f"tokens; asked for was {model} after {len(prompt)}. Something between it and this "
                "process changes requests: give its own address."
            )
        count = len(answer.ids)
        if answer.finish_reason == "stop":
            return Completion(answer.ids, answer.log_probs, "stop")
        if answer.finish_reason == "length" and count >= sampling.max_new_tokens:
            return Completion(answer.ids, answer.log_probs, "length")
        raise ServerUnreachable(
            f"it broke off after {count} tokens, finish_reason {answer.finish_reason}"
        )

    async def _check_base(self, client: httpx.AsyncClient, required: ServingRequirements) -> str:
        """Makes sure that this is a vLLM server of the base, with room for the longest sequence;
        returns the server's name for the base.
        """
        try:
            models = await self._list_models(client)
            card = next(card for card in models if not card.get("parent"))
            name, limit = card["id"], card["max_model_len"]
        except (RequestRefused, ValueError, KeyError, TypeError, StopIteration) as error:
            raise ModelError(
                f"{self.url} is no vLLM server: /v1/models gives {error!r}. Give the address that "
                "`purified-opsd serve` prints, such as http://127.0.0.1:8000, with nothing behind "
                "the port."
            ) from error
        if limit < required.max_tokens:
            raise ModelError(
                f"{self.url} takes {limit} tokens at most, and a prompt and its completion may "
                f"have {required.max_tokens} here. Restart it with --max-model-len "
                f"{required.max_tokens}, or lower prompts.max_tokens or sampling.max_new_tokens."
            )
        problem = "another base model, or this one in another dtype"
        try:
            await self._check_log_probs(client, name, required.base_check, problem)
        except RequestRefused as error:
            raise ModelError(
                f"{self.url} serves another base model than this run's: it says {error}."
            ) from error
        return name

    async def _switch_adapter(
        self, client: httpx.AsyncClient, base: str, adapter: AdapterVersion, check: LogProbCheck
    ) -> None:
        """Has the server serve this adapter, and no longer the one before."""
        # 1. Adapters share the server's memory: the one before goes first.
        if self.loaded and self.loaded != adapter.name:
            await self._unload_adapter(client, self.loaded)
        await self._load_adapter(client, adapter)
        self.loaded = adapter.name
        # 2. The server lists it, and as an adapter of the base.
        models = await self._list_models(client)
        if not any(card["id"] == adapter.name and card.get("parent") == base for card in models):
            raise ModelError(
                f"{self.url} says that it has loaded the adapter {adapter.name}, and does not list "
                f"it as one of {base}. Restart it with `purified-opsd serve`."
            )
        # 3. Its log-probs are the trainer's.
        problem = "a stale adapter, or none at all"
        try:
            await self._check_log_probs(client, adapter.name, check, problem)
        except RequestRefused as error:
            raise ModelError(
                f"{self.url} cannot use the adapter {adapter.name}: {error}. Restart it."
            ) from error
        self.serves = adapter.name

    async def _load_adapter(self, client: httpx.AsyncClient, adapter: AdapterVersion) -> None:
        """Has the server load the adapter, unless it has it from files that still exist: the name
        vouches for the weights, whoever loaded them.

        Where those files are gone, as an earlier run's are, the server would end itself when it
        next looks for them, so it gets new ones.
        """
        models = await self._list_models(client)
        loaded = next((card for card in models if card["id"] == adapter.name), None)
        if loaded and Path(loaded["root"]).is_dir():
            return
        body = {
            "lora_name": adapter.name,
            "lora_path": str(adapter.folder),
            "load_inplace": loaded is not None,
        }
        try:
            await send(client, self.url, "/v1/load_lora_adapter", body)
        except RequestRefused as error:
            message = str(error)
            if "EngineCore" in message:  # it is about to end
                raise ServerUnreachable(message) from error
            if "already been loaded" in message:  # by another process of this run, just now
                return
            raise ModelError(
                f"{self.url} does not load the adapter: {message}. {_advice(message, adapter)}"
            ) from error

    async def _unload_adapter(self, client: httpx.AsyncClient, name: str) -> None:
        try:
            await send(client, self.url, "/v1/unload_lora_adapter", {"lora_name": name})
        except RequestRefused as error:
            if error.status != 404:  # another process of this run was quicker, or it was restarted
                raise ModelError(
                    f"{self.url} does not unload the adapter {name}: {error}. Restart it."
                ) from error

    async def _list_models(self, client: httpx.AsyncClient) -> list[dict[str, Any]]:
        """The base and the adapters that the server has, by `id`, `parent` and `root`."""
        return (await send(client, self.url, "/v1/models"))["data"]

    async def _check_log_probs(
        self, client: httpx.AsyncClient, model: str, check: LogProbCheck, problem: str
    ) -> None:
        """Raises ModelError where the server's log-probs of the token after a fixed text are not
        the trainer's.
        """
        body = top_log_probs_request(model, check.prompt)
        response = await send(client, self.url, "/v1/completions", body)
        with self._reading(response):
            top_log_probs = read_top_log_probs(response)
        check.check(top_log_probs, f"{self.url} serves {problem}")

    @contextmanager
    def _reading(self, response: Any) -> Iterator[None]:
        """Raises ModelError where the response turns out not to be made as vLLM makes them."""
        try:
            yield
        except MALFORMED as error:
            raise ModelError(
                f"{self.url} does not answer as vLLM 0.32 does: {error!r} in "
                f"{str(response)[:200]}. Serve with that version: {INSTALL_VLLM}, then "
                "`purified-opsd serve`."
            ) from error


def _advice(message: str, adapter: AdapterVersion) -> str:
    if "rank" in message:
        return (
            "Restart it with a --max-lora-rank of at least adapter.rank; `purified-opsd serve` "
            "does."
        )
    if "No adapter found" in message or "Permission" in message:
        return (
            f"It cannot read {adapter.folder}: name a folder that the server and this process "
            "share, with --sampler.directory FOLDER."
        )
    return (
        "A server takes adapters while it runs if it was started with --enable-lora and "
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1; `purified-opsd serve` does both."
    )
