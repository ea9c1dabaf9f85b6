"""One request to a server over HTTP, and what can come of it."""

from collections.abc import Mapping
from typing import Any

import httpx

from .model import ModelError

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
    client: httpx.AsyncClient, url: str, path: str, body: Mapping[str, Any] | None = None, seconds: float = QUICK_S
) -> Any:
    """The answer to a GET, or to a POST of `body`, read as JSON where it is.

    Raises Unreachable, Refused, or ModelError for a key that is not the right one.
    """
    try:
        timeout = httpx.Timeout(seconds, connect=client.timeout.connect)
        answer = await client.request("GET" if body is None else "POST", url + path, json=body, timeout=timeout)
    except httpx.RequestError as error:
        raise Unreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
    if answer.status_code in (401, 403):
        raise ModelError(
            f"{url} does not take the key (status {answer.status_code}). Put the one that `purified-opsd serve` has printed into "
            "the environment variable that sampler.key_variable names, VLLM_API_KEY if left out."
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
