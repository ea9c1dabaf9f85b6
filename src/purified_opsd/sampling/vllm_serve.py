"""The vLLM server that a run can sample from: its command and environment."""

import secrets
import socket
import sys
from collections.abc import Mapping
from importlib.util import find_spec

from purified_opsd.errors import ModelError
from purified_opsd.policy.model import LoRA, Model, context_length, saved_dtype

from .sampler import Sampling
from .vllm_engine import lora_rank

KEY_VARIABLE = "VLLM_API_KEY"
"""vLLM takes its key from there; on a command line everyone on the machine could read it."""


def server_command(
    model: Model, adapter: LoRA, sampling: Sampling, longest_prompt: int, host: str, port: int
) -> list[str]:
    """Starts a server that serves the run's base in the trainer's dtype, with adapters of its rank
    and prompts of its length.

    Raises ModelError where the model's configuration cannot be read.
    """
    tokens = min(longest_prompt + sampling.max_new_tokens, context_length(model))
    flags = {
        "--model": model.path,
        "--host": host,
        "--port": str(port),
        "--dtype": str(saved_dtype(model)).removeprefix("torch."),
        "--max-model-len": str(tokens),
        "--max-num-seqs": str(sampling.batch_size),
        "--max-lora-rank": str(lora_rank(adapter.rank)),
        "--logprobs-mode": "raw_logprobs",
        "--generation-config": "vllm",  # nothing of the model's own sampling defaults
    }
    if model.revision:
        flags["--revision"] = model.revision
    trusted = ["--trust-remote-code"] if model.trust_remote_code_of == model.path else []
    words = [word for flag in flags.items() for word in flag]
    return [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        *words,
        "--enable-lora",
        *trusted,
    ]


def server_environment(environment: Mapping[str, str], *, open_to_all: bool) -> dict[str, str]:
    """The environment with runtime loading of adapters on, and a key unless it has one or the
    server is open to all.
    """
    added = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    if open_to_all:
        return {name: value for name, value in environment.items() if name != KEY_VARIABLE} | added
    return {KEY_VARIABLE: secrets.token_urlsafe(24), **environment, **added}


def refuse_unable(host: str, port: int) -> None:
    """Raises ModelError where vLLM is not installed, or nobody can listen on the port, as where
    another process does.
    """
    if find_spec("vllm") is None:
        raise ModelError(
            "vllm is not installed: pip install 'purified-opsd[vllm]' where the server is to run."
        )
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ModelError(
                f"A server cannot listen on {host}, port {port}: {error}. Give another --port or "
                "--host."
            ) from error
