"""The verb for a first look: quickstart."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .reporting import make_report


@app.command()
def quickstart(
    output_dir: Annotated[
        Path, typer.Option(help="Where it goes; given again, it goes on.")
    ] = Path("runs/quickstart"),
    steps: Annotated[int, typer.Option(min=3, help="Training steps of each arm.")] = 60,
    questions: Annotated[
        int, typer.Option(min=2, max=1_924, help="Held-out questions of the evaluation.")
    ] = 300,
    samples: Annotated[
        int, typer.Option(min=2, max=1_955, help="Completions of the diagnosis.")
    ] = 100,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """The paper in miniature on two processor cores: train, evaluate and diagnose both arms, side
    by side.
    """
    from purified_opsd.quickstart.runner import ARMS, ArmFailed, Quickstart, Stopped, run_quickstart
    from purified_opsd.quickstart.summary_table import NOTE, write_summary

    again = f"Go on with: purified-opsd {shlex.join(sys.argv[1:])}"
    try:
        run_quickstart(Quickstart(steps, questions, samples, seed), output_dir)
    except Stopped as stop:
        typer.echo(f"{stop} {again}", err=True)
        raise typer.Exit(stop.exit_code) from stop
    except (ArmFailed, TimeoutError) as error:
        typer.echo(f"purified-opsd: {error}\n{again}", err=True)
        raise typer.Exit(error.exit_code if isinstance(error, ArmFailed) else 1) from error
    text, files = write_summary(output_dir)
    page = output_dir / "report.html"
    make_report([output_dir / arm for arm in ARMS], page)
    typer.echo(
        "\n"
        f"{text}\n"
        f"{NOTE}\n\nOpen {page}, or {files[0]} alone. What the students wrote: "
        f"{output_dir}/*/rollouts/."
    )
