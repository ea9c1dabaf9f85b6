"""One request to a server over HTTP, and what can come of it.

One vLLM server: what it must serve, and what makes an answer of it count.

It speaks vLLM's OpenAI-compatible API: /v1/models, /v1/load_lora_adapter, /v1/unload_lora_adapter,
/v1/completions.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from purified_opsd.errors import ModelError

from .logprob_check import GREEDY, TOP, LogProbCheck
from .sampler import Completion, Ids, Sampling
from .weight_sync import AdapterVersion

AGAIN = (429, 502, 503, 504)
"""Statuses of a server that is busy, starting, or behind a gateway that cannot reach it."""


class Unreachable(Exception):
    """No answer for now; another try may bring one."""


class Refused(Exception):
    """The server understood and said no: its status and its words."""

    def __init__(self, status: int, words: str):
        super().__init__(f"{words} (status {status})")
        self.status = status


QUICK_S = 120.0
"""The longest that anything but a completion may take."""


async def ask(
    client: httpx.AsyncClient,
    url: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    seconds: float = QUICK_S,
) -> Any:
    """The answer to a GET, or to a POST of `body`, read as JSON where it is.

    Raises Unreachable, Refused, or ModelError for a key that is not the right one.
    """
    try:
        timeout = httpx.Timeout(seconds, connect=client.timeout.connect)
        answer = await client.request(
            "GET" if body is None else "POST", url + path, json=body, timeout=timeout
        )
    except httpx.RequestError as error:
        raise Unreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
    if answer.status_code in (401, 403):
        raise ModelError(
            f"{url} does not take the key (status {answer.status_code}). Put the one that "
            "`purified-opsd serve` has printed into the environment variable that "
            "sampler.key_variable names, VLLM_API_KEY if left out."
        )
    if answer.status_code in AGAIN:
        raise Unreachable(f"status {answer.status_code}")
    if answer.is_error:
        raise Refused(answer.status_code, _words(answer))
    if "json" not in answer.headers.get("content-type", ""):
        return answer.text
    try:
        return answer.json()
    except ValueError as error:
        raise Unreachable(f"its answer breaks off: {error}") from error


def _words(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(answer.text.split())[:200]


pass


@dataclass(frozen=True)
class Wanted:
    """What a server must serve before a token of it counts."""

    base: LogProbCheck
    tokens: int
    """Of the longest prompt and its completion together."""
    version: AdapterVersion | None = None
    """None: the base alone."""
    fingerprint: LogProbCheck | None = None
    """Of the policy with that version."""


@dataclass(frozen=True)
class Drawing:
    """How completions are drawn."""

    sampling: Sampling
    eos: Sequence[int]
    """Tokens that end one."""
    seconds: float
    """The longest that one may take."""
    V: int
    """Rows of the head: no token's id reaches it."""


class VLLMClient:
    """A server as it was last seen."""

    def __init__(self, url: str):
        self.url = url
        self.base: str | None = None
        """The name of the base there; None until it has been looked at."""
        self.serves: str | None = None
        """The name of the version that it was found to serve."""
        self.loaded: str | None = None
        """The name of the version that it was last told to load."""

    def forget(self) -> None:
        """It may have been restarted, with anything: it is looked at again before any token counts."""
        self.base = self.serves = None

    async def ready(self, client: httpx.AsyncClient, wanted: Wanted) -> str:
        """Has it serve what is wanted; the name to ask it for.  Raises ModelError, Unreachable."""
        base = self.base or await self._meet(client, wanted)
        if wanted.version is None or wanted.fingerprint is None:
            return base
        if self.serves != wanted.version.name:
            await self._serve(client, base, wanted.version, wanted.fingerprint)
        return wanted.version.name

    async def complete(
        self, client: httpx.AsyncClient, model: str, prompt: Ids, seed: int, drawing: Drawing
    ) -> Completion:
        """One completion by the model of that name.  Raises ModelError, Unreachable, Refused."""
        body = completion_body(model, prompt, seed, drawing.sampling, drawing.eos)
        answer = await ask(client, self.url, "/v1/completions", body, drawing.seconds)
        with self._answers_like_vllm(answer):
            choice = answer["choices"][0]
            ids, finish, seen = (
                choice["token_ids"],
                choice["finish_reason"],
                choice["prompt_token_ids"],
            )
            log_probs = [float(x) for x in choice["logprobs"]["token_logprobs"]]
            if len(log_probs) != len(ids) or not all(0 <= token < drawing.V for token in ids):
                raise ValueError(
                    f"{len(ids)} tokens of a vocabulary of {drawing.V}, {len(log_probs)} log-probs"
                )
        if answer["model"] != model or seen != list(prompt):
            raise ModelError(
                f"{self.url} has answered for {answer['model']} after {len(seen)} prompt tokens; "
                f"asked for was {model} after {len(prompt)}. Something between it and this process "
                "changes requests: give its own address."
            )
        if finish not in ("stop", "length") or (
            finish == "length" and len(ids) < drawing.sampling.max_new_tokens
        ):
            raise Unreachable(f"it broke off after {len(ids)} tokens, finish_reason {finish}")
        return Completion(ids, log_probs, finish)

    async def _meet(self, client: httpx.AsyncClient, wanted: Wanted) -> str:
        """Makes sure that it is a vLLM server of the base, with room for the longest sequence; the
        base's name there.
        """
        try:
            card = next(card for card in await self._cards(client) if not card.get("parent"))
            name, limit = card["id"], card["max_model_len"]
        except (Refused, ValueError, KeyError, TypeError, StopIteration) as error:
            raise ModelError(
                f"{self.url} is no vLLM server: /v1/models gives {error!r}. Give the address that "
                "`purified-opsd serve` prints, such as http://127.0.0.1:8000, with nothing behind "
                "the port."
            ) from error
        if limit < wanted.tokens:
            raise ModelError(
                f"{self.url} takes {limit} tokens at most, and a prompt and its completion may "
                f"have {wanted.tokens} here. Restart it with --max-model-len {wanted.tokens}, or "
                "lower prompts.max_tokens or sampling.max_new_tokens."
            )
        try:
            await self._compare(
                client, name, wanted.base, "another base model, or this one in another dtype"
            )
        except Refused as error:
            raise ModelError(
                f"{self.url} serves another base model than this run's: it says {error}."
            ) from error
        self.base = name
        return name

    async def _serve(
        self,
        client: httpx.AsyncClient,
        base: str,
        version: AdapterVersion,
        fingerprint: LogProbCheck,
    ) -> None:
        """Has it serve the version, and no longer the one before."""
        if self.loaded and self.loaded != version.name:
            await self._unload(client, self.loaded)
        await self._load(client, version)
        self.loaded = version.name
        if not any(
            card["id"] == version.name and card.get("parent") == base
            for card in await self._cards(client)
        ):
            raise ModelError(
                f"{self.url} says that it has loaded the adapter {version.name}, and does not list "
                f"it as one of {base}. Restart it with `purified-opsd serve`."
            )
        try:
            await self._compare(
                client, version.name, fingerprint, "a stale adapter, or none at all"
            )
        except Refused as error:
            raise ModelError(
                f"{self.url} cannot use the adapter {version.name}: {error}. Restart it."
            ) from error
        self.serves = version.name

    async def _load(self, client: httpx.AsyncClient, version: AdapterVersion) -> None:
        """Unless it has the version from files that are still there: the name vouches for the
        weights, whoever loaded them.

        Where the files are gone, as an earlier run's are, it would end itself when it next looks
        for them: it gets new ones.
        """
        there = next(
            (card for card in await self._cards(client) if card["id"] == version.name), None
        )
        if there and Path(there["root"]).is_dir():
            return
        wanted = {
            "lora_name": version.name,
            "lora_path": str(version.folder),
            "load_inplace": there is not None,
        }
        try:
            await ask(client, self.url, "/v1/load_lora_adapter", wanted)
        except Refused as error:
            if "EngineCore" in str(error):  # it is about to end
                raise Unreachable(str(error)) from error
            if "already been loaded" not in str(error):  # by another process of this run, just now
                raise ModelError(
                    f"{self.url} does not load the adapter: {error}. {_advice(str(error), version)}"
                ) from error

    async def _unload(self, client: httpx.AsyncClient, name: str) -> None:
        try:
            await ask(client, self.url, "/v1/unload_lora_adapter", {"lora_name": name})
        except Refused as error:
            if error.status != 404:  # another process of this run was quicker, or it was restarted
                raise ModelError(
                    f"{self.url} does not unload the adapter {name}: {error}. Restart it."
                ) from error

    async def _cards(self, client: httpx.AsyncClient) -> list[dict[str, Any]]:
        return (await ask(client, self.url, "/v1/models"))["data"]

    async def _compare(
        self, client: httpx.AsyncClient, name: str, fingerprint: LogProbCheck, reason: str
    ) -> None:
        """Raises ModelError where its log-probs of the token after a fixed text are not the
        trainer's.
        """
        body = completion_body(name, fingerprint.prompt, 0, GREEDY, []) | {
            "logprobs": TOP,
            "return_tokens_as_token_ids": True,
        }
        answer = await ask(client, self.url, "/v1/completions", body)
        with self._answers_like_vllm(answer):
            top: Mapping[str, float] = answer["choices"][0]["logprobs"]["top_logprobs"][0]
            found = {int(token.removeprefix("token_id:")): float(x) for token, x in top.items()}
        fingerprint.check(found, f"{self.url} serves {reason}")

    @contextmanager
    def _answers_like_vllm(self, answer: Any) -> Iterator[None]:
        """While its completion is read.  Raises ModelError where it is not made as vLLM makes them."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"{self.url} does not answer as vLLM 0.32 does: {error!r} in {str(answer)[:200]}. "
                "Serve with that version: pip install 'purified-opsd[vllm]', then `purified-opsd "
                "serve`."
            ) from error


def completion_body(
    model: str, prompt: Ids, seed: int, sampling: Sampling, eos: Sequence[int]
) -> dict[str, Any]:
    """A request for one completion.  All that the server might take from the model's
    generation_config.json is said.
    """
    return {
        "model": model,
        "prompt": list(prompt),
        "seed": seed,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": True,
        "stop_token_ids": list(eos),
        "logprobs": 0,
        "return_token_ids": True,
    }


def _advice(words: str, version: AdapterVersion) -> str:
    if "rank" in words:
        return "Restart it with a --max-lora-rank of at least adapter.rank; `purified-opsd serve` does."
    if "No adapter found" in words or "Permission" in words:
        return (
            f"It cannot read {version.folder}: name a folder that the server and this process "
            "share, with --sampler.directory FOLDER."
        )
    return (
        "A server takes adapters while it runs if it was started with --enable-lora and "
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1; `purified-opsd serve` does both."
    )
