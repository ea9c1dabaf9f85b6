"""The verb for ablations: sweep."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .app import OTHER_SETTINGS, app, is_first, settings_of, tell
from .reporting import make_report


@app.command(context_settings=OTHER_SETTINGS)
def sweep(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="A YAML file, or a recipe's name (see `purified-opsd recipes`).")
    ],
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the runs go, each in a folder named by its values; runs/RECIPE-sweep if "
            "left out."
        ),
    ] = None,
) -> None:
    """Train one run for every combination of several values, one after another, and compare them in
    one report.

    Settings by their dotted names, such as --target.clip 5 10 20 --target.beta 0.5 1 2 --steps 50;
    those with several values are varied.  Interrupted anywhere, the same command goes on: what is
    done is skipped, what was begun is resumed.
    """
    from purified_opsd.errors import Interrupted
    from purified_opsd.sweep import grid, refuse_changes

    folder = (
        output_dir
        or Path("runs")
        / f"{Path(recipe).stem if Path(recipe).suffix in ('.yaml', '.yml') else recipe}-sweep"
    )
    points = grid(settings_of(recipe), context.args, folder)
    refuse_changes(points)
    diverged = []
    for place, point in enumerate(points, 1):
        if is_first():
            typer.echo(
                f"{place} of {len(points)}: {point.folder}{', done already' if point.done else ''}"
            )
        try:
            if not point.done:
                point.go_on()
        except Interrupted as stop:
            tell(f"{stop}\nGo on with: purified-opsd {shlex.join(sys.argv[1:])}")
            raise typer.Exit(stop.exit_code) from stop
        except FloatingPointError as error:  # of these values; the others may do well
            tell(f"{point.folder} diverged, and the sweep goes on: {error}")
            diverged.append(point.folder.name)
    if is_first():
        make_report([point.folder for point in points], folder / "report.html")
        typer.echo(
            f"{len(points) - len(diverged)} of {len(points)} runs are done. Open "
            f"{folder / 'report.html'}."
        )
    if diverged:
        raise typer.Exit(1)
