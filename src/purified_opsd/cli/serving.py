"""The verb that starts a sampling server: serve."""

import os
import shlex
from typing import Annotated

import typer

from .app import OTHER_SETTINGS, app, settings_of


@app.command(context_settings=OTHER_SETTINGS)
def serve(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="The YAML file or recipe that is trained.")],
    model: Annotated[str | None, typer.Option(help="Hub id or folder of the model.")] = None,
    host: Annotated[
        str, typer.Option(help="Where it listens; 0.0.0.0: on every network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 8000,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Let everyone in who can reach it.")
    ] = False,
    vllm: Annotated[
        str, typer.Option(help="Further flags of vLLM in one word: '--tensor-parallel-size 2'.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the command, and start nothing.")
    ] = False,
) -> None:
    """Start a vLLM server that runs with `--sampler.kind vllm-server` can draw from.

    Other settings by their dotted names, as for `train`. The key is the environment variable
    VLLM_API_KEY, made up where it is not set.
    """
    from purified_opsd.sampling.vllm_serve import (
        KEY_VARIABLE,
        refuse_unable,
        server_command,
        server_environment,
    )
    from purified_opsd.settings import build_run, merge, read_overrides

    settings = merge(
        settings_of(recipe), ({"model": model} if model else {}) | read_overrides(context.args)
    )
    run = build_run(settings | {"data": settings.get("data", "none")})
    command = [
        *server_command(run.model, run.adapter, run.sampling, run.prompts.max_tokens, host, port),
        *shlex.split(vllm),
    ]
    environment = server_environment(os.environ, open_to_all=no_key)
    if not dry_run:
        refuse_unable(host, port)
    typer.echo(f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 {shlex.join(command)}")
    if not no_key and KEY_VARIABLE not in os.environ:
        typer.echo(
            f"Its key, for those who train: export {KEY_VARIABLE}={environment[KEY_VARIABLE]}"
        )
    typer.echo(f"Train with: --sampler.kind vllm-server --sampler.urls http://{host}:{port}")
    if not dry_run:
        os.execve(command[0], command, environment)  # signals go to vLLM itself from here on
