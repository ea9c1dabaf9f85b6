"""The vLLM server that a run can sample from: its command and environment."""

import secrets
import socket
import sys
from collections.abc import Mapping
from importlib.util import find_spec

from purified_opsd.errors import ModelError
from purified_opsd.policy.loading import context_length, saved_dtype
from purified_opsd.policy.model import LoRA, Model

from .sampler import Sampling
from .vllm_api import INSTALL_VLLM
from .vllm_engine import lora_rank

KEY_VARIABLE = "VLLM_API_KEY"
"""vLLM takes its key from there; on a command line everyone on the machine could read it."""


def server_command(
    model: Model, adapter: LoRA, sampling: Sampling, longest_prompt: int, host: str, port: int
) -> list[str]:
    """The command that serves the run's base in the trainer's dtype, with adapters of the run's
    rank and prompts of its length.

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
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    for name, value in flags.items():
        command += [name, value]
    command.append("--enable-lora")
    if model.trust_remote_code_of == model.path:
        command.append("--trust-remote-code")
    return command


def server_environment(environment: Mapping[str, str], *, open_to_all: bool) -> dict[str, str]:
    """The server's environment: adapters can be loaded while it runs, and it has a key, its own or
    a new one, unless it is open to all.
    """
    result = {KEY_VARIABLE: secrets.token_urlsafe(24), **environment}
    if open_to_all:
        del result[KEY_VARIABLE]
    return result | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}


def refuse_unable(host: str, port: int) -> None:
    """Raises ModelError where vLLM is not installed, or where no server can listen on the port, as
    when another process does.
    """
    if find_spec("vllm") is None:
        raise ModelError(f"vllm is not installed: {INSTALL_VLLM}, where the server is to run.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ModelError(
                f"A server cannot listen on {host}, port {port}: {error}. Give another --port or "
                "--host."
            ) from error
