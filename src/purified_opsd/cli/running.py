"""Verbs that make a run: train, resume, export; and those that tell about one before it is made:
recipes, plan.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from .app import OTHER_SETTINGS, RunFolder, app, run_of, settings_of, tell


@app.command(context_settings=OTHER_SETTINGS)
def train(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="A YAML file, or a recipe's name (see `purified-opsd recipes`).")
    ],
    model: Annotated[str | None, typer.Option(help="Hub id or folder of the model.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Training set: a file, a folder or a hub id.")
    ] = None,
    output_dir: Annotated[str | None, typer.Option(help="Where the run goes.")] = None,
    steps: Annotated[str | None, typer.Option(help="Optimizer steps.")] = None,
    seed: Annotated[str | None, typer.Option(help="Seed of everything random.")] = None,
) -> None:
    """Train a LoRA adapter.

    Every other setting by its dotted name, such as --optimizer.learning-rate 1e-4 or --target.clip
    5; `purified-opsd recipes NAME` shows them all.
    """
    from purified_opsd.settings import build_run, located, merge, read_overrides, to_yaml
    from purified_opsd.training.run import start_run

    short = {"model": model, "data": data, "output_dir": output_dir, "steps": steps, "seed": seed}
    settings = merge(
        settings_of(recipe), {name: value for name, value in short.items() if value is not None}
    )
    run = located(build_run(merge(settings, read_overrides(context.args))))
    with _resumable(run.output_dir):
        start_run(run, to_yaml(run))


@app.command(context_settings=OTHER_SETTINGS)
def resume(
    context: typer.Context,
    folder: RunFolder,
    steps: Annotated[str | None, typer.Option(help="Go on to this many steps in all.")] = None,
) -> None:
    """Go on with a run from its newest good checkpoint, as if it had never stopped.

    Settings that do not change what the student is after can be given anew by their dotted names,
    such as --micro-batch-tokens 4096 after running out of memory.
    """
    from purified_opsd.settings import build_run, merge, read_overrides, to_mapping, to_yaml
    from purified_opsd.training.run import resume_run

    overrides = read_overrides(context.args) | ({"steps": steps} if steps else {})
    run = build_run(merge(to_mapping(run_of(folder)), overrides))
    with _resumable(folder):
        resume_run(run, folder, to_yaml(run))


@app.command()
def export(
    folder: RunFolder,
    output: Annotated[Path, typer.Option(help="Where the merged model goes; must not exist.")],
    step: Annotated[
        int | None, typer.Option(help="Which checkpoint; the newest good one if left out.")
    ] = None,
) -> None:
    """Merge a checkpoint's adapter into its base (in float32) and save it in the base's dtype."""
    from purified_opsd.errors import SettingsError
    from purified_opsd.policy.export import export as export_model
    from purified_opsd.training.checkpoint import checkpoint_folder, verify

    if output.exists():
        raise SettingsError(f"{output} exists already; nothing was written. Give another --output.")
    run = run_of(folder)
    checkpoint = checkpoint_folder(folder, _checkpoint_step(folder, step))
    verify(checkpoint)
    lost = export_model(run.model, checkpoint / "adapter", output)
    typer.echo(f"{output}: {Path(run.model.path).name} with the adapter of {checkpoint.name}.")
    typer.echo(f"Rounding to the saved dtype changed the update by {lost:.1%} of its norm.")
    if lost > 0.1:
        typer.echo(
            f"To serve the model as it was trained, load {run.model.path} with the adapter "
            f"{checkpoint / 'adapter'}."
        )


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="A recipe, to see all its settings as YAML.")
    ] = None,
) -> None:
    """List the recipes, or print one as a YAML file to start from."""
    from purified_opsd.recipes import RECIPES, find_recipe
    from purified_opsd.settings import to_yaml

    if name:
        typer.echo(to_yaml(find_recipe(name)), nl=False)
        return
    width = max(map(len, RECIPES))
    for recipe, run in RECIPES.items():
        typer.echo(f"{recipe:<{width}}  {run.arm}: {run.target}, {run.divergence}")


@app.command(context_settings=OTHER_SETTINGS)
def plan(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A YAML file, or a recipe's name.")],
    gpu: Annotated[
        str, typer.Option(help="One of the GPUs that are known, such as h100-80gb.")
    ] = "h100-80gb",
    gpus: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    question: Annotated[int, typer.Option(min=1, help="Mean tokens of a question's prompt.")] = 200,
    reference: Annotated[int, typer.Option(min=1, help="Mean tokens of a reference.")] = 4000,
    nodes: Annotated[
        str | None, typer.Option(help="Numbers of nodes of 8 GPUs to simulate, such as 1,2,4,8.")
    ] = None,
    median: Annotated[
        int | None, typer.Option(min=1, help="Median tokens of a completion in the simulation.")
    ] = None,
) -> None:
    """Estimate a run's memory and time on GPUs before there are any; with --nodes, simulate its
    steps past eight.

    Completions are taken to fill sampling.max_new_tokens. Other settings by their dotted names, as
    for `train`.
    """
    from purified_opsd.errors import SettingsError
    from purified_opsd.planning.cluster import Completions, cluster_report
    from purified_opsd.planning.estimate import GPUS, DoesNotFit, report
    from purified_opsd.planning.flops_memory import lengths_of
    from purified_opsd.planning.model_dims import model_dims_of
    from purified_opsd.settings import build_run, merge, read_overrides

    run = build_run(merge(settings_of(recipe), read_overrides(context.args)))
    if gpu not in GPUS:
        raise SettingsError(f"There is no GPU {gpu} in the table. Known: {', '.join(GPUS)}.")
    lengths = lengths_of(question, reference, run.sampling.max_new_tokens)
    shape = model_dims_of(run.model)
    try:
        typer.echo(report(run, shape, lengths, gpu, gpus))
    except DoesNotFit as error:
        raise SettingsError(str(error)) from error
    if nodes:
        drawn = Completions(median or run.sampling.max_new_tokens)
        typer.echo(cluster_report(run, shape, lengths, gpu, _counts(nodes), drawn))


def _counts(words: str) -> list[int]:
    from purified_opsd.errors import SettingsError

    counts = [int(word) if word.strip().isdigit() else 0 for word in words.split(",")]
    if min(counts) < 1:
        raise SettingsError(
            "--nodes takes whole numbers above 0 with commas between them, such as 1,2,4,8; got "
            f"{words}."
        )
    return counts


def _checkpoint_step(folder: Path, step: int | None) -> int:
    from purified_opsd.errors import RunError
    from purified_opsd.training.checkpoint import list_checkpoints, newest_valid

    steps = list_checkpoints(folder)
    newest, _ = newest_valid(folder)
    if newest is None or (step is not None and step not in steps):
        there = f"it has {', '.join(map(str, steps))}" if steps else "it has none yet"
        raise RunError(
            f"{folder} has no good checkpoint{f' of step {step}' if step is not None else ''}; "
            f"{there}."
        )
    return newest.step if step is None else step


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Names the command that goes on with a run, where it ended early."""
    from purified_opsd.errors import Stopped

    try:
        yield
    except Stopped as stop:
        tell(f"{stop}\nGo on with: purified-opsd resume {shlex.quote(str(folder))}")
        raise typer.Exit(stop.exit_code) from stop
