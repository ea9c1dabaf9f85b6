"""Verbs that show what a run's distributions do: microscope, sample."""

import shutil
from dataclasses import replace
from typing import Annotated, Literal

import typer

from .app import RunFolder, app, run_of, settings_errors


@app.command()
def microscope(
    folder: RunFolder,
    samples: Annotated[int, typer.Option(help="Completions of each.")] = 4,
    step: Annotated[
        list[int] | None, typer.Option(help="Which checkpoints, 0 for the base; all if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides questions and completions.")] = 0,
) -> None:
    """What teacher and purified target want at every token of a few completions: a page of the base
    and every checkpoint.
    """
    from purified_opsd.inspection.microscope import microscope_run

    page = microscope_run(run_of(folder), step, samples, seed)
    typer.echo(f"Open {page} ({page.stat().st_size / 1e6:.1f} MB).")


@app.command()
def sample(
    folder: RunFolder,
    source: Annotated[
        Literal["target", "teacher", "student", "base"],
        typer.Option(
            "--from",
            help="Who writes: by default the purified target, the paper's where the run has none.",
        ),
    ] = "target",
    samples: Annotated[int, typer.Option(help="How many, each to a question of its own.")] = 3,
    step: Annotated[
        int | None, typer.Option(help="Which checkpoint of the student; the newest if left out.")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Instead of the run's.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Instead of the run's; 0 is greedy.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides questions and draws.")] = 0,
) -> None:
    """Read what the purified target itself would write, or the teacher, the student, the base."""
    from purified_opsd.errors import SettingsError
    from purified_opsd.inspection.sample import SampleRequest, sample_run
    from purified_opsd.reporting.terminal import completion_text

    if step is not None and source != "student":
        raise SettingsError(
            f"--step {step} is of the student, and {source} is the frozen base's. Leave --step "
            "out, or say --from student."
        )
    run = run_of(folder)
    given = {
        name: value
        for name, value in (("max_new_tokens", max_new_tokens), ("temperature", temperature))
        if value is not None
    }
    with settings_errors():
        run = replace(run, sampling=replace(run.sampling, **given))
    width = min(100, shutil.get_terminal_size().columns)
    file = sample_run(
        run,
        SampleRequest(source, samples, seed, step),
        lambda row: typer.echo(completion_text(row, width)),
    )
    typer.echo(f"Kept in {file}.")
