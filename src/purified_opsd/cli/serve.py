"""purified-opsd serve"""

import os
import shlex
from typing import Annotated

from cyclopts import Parameter

from purified_opsd.recipes import read_recipe
from purified_opsd.settings.build import build, merge, override
from purified_opsd.training.config import TrainingConfig

from .loading import loading
from .parameters import Recipe, Settings


def serve(
    recipe: Recipe,
    /,
    *settings: Settings,
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    no_key: bool = False,
    vllm: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    dry_run: bool = False,
) -> None:
    """Start a vLLM server that runs with `--sampler.kind vllm-server` can draw from.

    The key is the environment variable VLLM_API_KEY, made up where it is not set.

    Args:
        model: Hub id or folder of the model.
        host: Where it listens; 0.0.0.0: on every network.
        port: The port.
        no_key: Let everyone in who can reach it.
        vllm: Further flags of vLLM in one word: '--tensor-parallel-size 2'.
        dry_run: Print the command, and start nothing.
    """
    start = {"data": "none", **read_recipe(recipe)}  # which needs no training set
    if model:
        start = merge(TrainingConfig, start, {"model": model})
    config = build(TrainingConfig, override(TrainingConfig, start, settings))
    with loading():
        from purified_opsd.sampling.vllm_serve import (
            KEY_VARIABLE,
            refuse_unable,
            server_command,
            server_environment,
        )
    prompt_tokens = config.prompts.max_tokens
    command = [
        *server_command(config.model, config.adapter, config.sampling, prompt_tokens, host, port),
        *shlex.split(vllm),
    ]
    environment = server_environment(os.environ, open_to_all=no_key)
    if not dry_run:
        refuse_unable(host, port)
    print(f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 {shlex.join(command)}")
    if not no_key and KEY_VARIABLE not in os.environ:
        print(f"Its key, for those who train: export {KEY_VARIABLE}={environment[KEY_VARIABLE]}")
    print(f"Train with: --sampler.kind vllm-server --sampler.urls http://{host}:{port}", flush=True)
    if not dry_run:
        os.execve(command[0], command, environment)  # signals go to vLLM itself from here on
