"""purified-opsd report"""

from collections.abc import Sequence
from pathlib import Path

from purified_opsd.analysis.markers import MARKERS, count_substrings, count_words
from purified_opsd.errors import SettingsError
from purified_opsd.reporting.marker_counts import MarkerWords
from purified_opsd.reporting.report import write_report


def report(*runs: Path, output: Path = Path("report.html")) -> None:
    """Write one self-contained page: accuracy, markers, the teacher's pull, training, and
    completions before and after.

    Figures come as PNG and SVG, with their numbers as CSV. What was not measured is said to be
    missing.

    Args:
        runs: Run directories, side by side in the order given.
        output: The page; its figures go into a folder beside it.
    """
    if not runs:
        raise SettingsError("A report is of run directories: purified-opsd report RUN RUN ...")
    print(f"Open {output}. Its figures and their numbers are in {make_report(runs, output)}.")


def make_report(runs: Sequence[Path], output: Path) -> Path:
    """Writes the report; returns the folder of its figures.  Imports no torch."""
    if output.suffix not in (".html", ".htm") or output.is_dir():
        raise SettingsError(
            f"{output} is no name of a page; nothing was written. Give --output a file that ends "
            "in .html."
        )
    return write_report(runs, output, MarkerWords(MARKERS, count_substrings, count_words))
