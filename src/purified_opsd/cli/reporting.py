"""The verb that shows what became of runs: report."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories, side by side in the order given.")
    ],
    output: Annotated[
        Path, typer.Option(help="The page; its figures go into a folder beside it.")
    ] = Path("report.html"),
) -> None:
    """One self-contained page: accuracy, markers, the teacher's pull, training, and completions
    before and after.

    Figures come as PNG and SVG, with their numbers as CSV.  What was not measured is said to be
    missing.
    """
    typer.echo(f"Open {output}. Its figures and their numbers are in {make_report(runs, output)}.")


def make_report(runs: list[Path], output: Path) -> Path:
    """Writes the report; the folder of its figures.  Imports no torch."""
    from purified_opsd.analysis.markers import MARKERS, count_substrings, count_words
    from purified_opsd.reporting.marker_counts import MarkerWords
    from purified_opsd.reporting.report import write_report

    if output.suffix not in (".html", ".htm") or output.is_dir():
        raise typer.BadParameter(
            f"{output} is no name of a page; nothing was written. Give --output a file that ends "
            "in .html."
        )
    return write_report(runs, output, MarkerWords(MARKERS, count_substrings, count_words))
