"""vLLM's OpenAI-compatible API: how a request is sent, what can come of it, and what requests and
answers hold.

Used are /v1/models, /v1/completions, /v1/load_lora_adapter and /v1/unload_lora_adapter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from purified_opsd.errors import ModelError

from .logprob_check import GREEDY, TOP
from .sampler import Ids, Sampling

INSTALL_VLLM = "pip install 'vllm>=0.32,<0.33'"
"""Installs the version that this API is of, as the extra `vllm` of this project does."""
RETRY_STATUSES = (429, 502, 503, 504)
"""Statuses of a server that is busy, starting, or behind a gateway that cannot reach it."""
QUICK_TIMEOUT_S = 120.0
"""The longest that anything but a completion may take."""


class ServerUnreachable(Exception):
    """There is no answer for now; another attempt may bring one."""


class RequestRefused(Exception):
    """The server understood the request and said no."""

    def __init__(self, status: int, message: str):
        super().__init__(f"{message} (status {status})")
        self.status = status


async def send(
    client: httpx.AsyncClient,
    url: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    timeout_s: float = QUICK_TIMEOUT_S,
) -> Any:
    """Returns the answer to a GET, or to a POST of `body`; parsed where it is JSON.

    Raises ServerUnreachable, RequestRefused, or ModelError for a key that is not the right one.
    """
    method = "GET" if body is None else "POST"
    timeout = httpx.Timeout(timeout_s, connect=client.timeout.connect)
    try:
        response = await client.request(method, url + path, json=body, timeout=timeout)
    except httpx.RequestError as error:
        raise ServerUnreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
    if response.status_code in (401, 403):
        raise ModelError(
            f"{url} does not take the key (status {response.status_code}). Put the one that "
            "`purified-opsd serve` has printed into the environment variable that "
            "sampler.key_variable names, VLLM_API_KEY if left out."
        )
    if response.status_code in RETRY_STATUSES:
        raise ServerUnreachable(f"status {response.status_code}")
    if response.is_error:
        raise RequestRefused(response.status_code, _error_message(response))
    if "json" not in response.headers.get("content-type", ""):
        return response.text
    try:
        return response.json()
    except ValueError as error:
        raise ServerUnreachable(f"its answer breaks off: {error}") from error


def _error_message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(response.text.split())[:200]


def completion_request(
    model: str, prompt: Ids, seed: int, sampling: Sampling, eos: Sequence[int]
) -> dict[str, Any]:
    """The body of a request for one completion.  It names every setting that the server might
    otherwise take from the model's generation_config.json.
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


def top_log_probs_request(model: str, prompt: Ids) -> dict[str, Any]:
    """The body of a request for the likeliest next tokens."""
    body = completion_request(model, prompt, 0, GREEDY, [])
    return body | {"logprobs": TOP, "return_tokens_as_token_ids": True}


@dataclass(frozen=True)
class CompletionAnswer:
    """What a server says of one completion."""

    model: str
    prompt: list[int]
    ids: list[int]
    log_probs: list[float]
    finish_reason: str | None


MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError)
"""What reading an answer raises where the answer is not made as vLLM makes it."""


def read_completion_answer(answer: Any, V: int) -> CompletionAnswer:
    """Raises one of `MALFORMED`, also for tokens beyond a head of V rows."""
    choice = answer["choices"][0]
    ids, log_probs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
    if len(log_probs) != len(ids) or not all(0 <= token < V for token in ids):
        raise ValueError(f"{len(ids)} tokens of a vocabulary of {V}, {len(log_probs)} log-probs")
    return CompletionAnswer(
        model=answer["model"],
        prompt=choice["prompt_token_ids"],
        ids=ids,
        log_probs=[float(log_prob) for log_prob in log_probs],
        finish_reason=choice["finish_reason"],
    )


def read_top_log_probs(answer: Any) -> dict[int, float]:
    """The log-probs of the likeliest next tokens, by id.  Raises one of `MALFORMED`."""
    top: Mapping[str, float] = answer["choices"][0]["logprobs"]["top_logprobs"][0]
    return {
        int(token.removeprefix("token_id:")): float(log_prob) for token, log_prob in top.items()
    }
