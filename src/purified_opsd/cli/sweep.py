"""purified-opsd sweep"""

import shlex
import sys
from pathlib import Path

from purified_opsd.errors import Interrupted
from purified_opsd.recipes import is_yaml, read_recipe
from purified_opsd.sweep import grid, refuse_changes

from .parameters import Recipe, Settings
from .rank_zero import is_first, say
from .report import make_report


def sweep(recipe: Recipe, /, *settings: Settings, output_dir: Path | None = None) -> int:
    """Train one run for every combination of several values, one after another, and compare them in
    one report.

    Settings with several values are varied, such as --target.clip 5 10 20 --target.beta 0.5 1 2.
    Interrupted anywhere, the same command goes on: what is done is skipped, what was begun is
    resumed.

    Args:
        output_dir: Where the runs go, each in a folder named by its values; runs/RECIPE-sweep if
            left out.
    """
    name = Path(recipe).stem if is_yaml(recipe) else recipe
    folder = output_dir or Path("runs") / f"{name}-sweep"
    points = grid(read_recipe(recipe), settings, folder)
    refuse_changes(points)
    diverged = []
    for number, point in enumerate(points, 1):
        if is_first():
            done = ", done already" if point.done else ""
            print(f"{number} of {len(points)}: {point.folder}{done}", flush=True)
        try:
            if not point.done:
                point.run()
        except Interrupted as stop:
            say(f"{stop}\nGo on with: purified-opsd {shlex.join(sys.argv[1:])}")
            return stop.exit_code
        except FloatingPointError as error:  # of these values; the others may do well
            say(f"{point.folder} diverged, and the sweep goes on: {error}")
            diverged.append(point.folder.name)
    if is_first():
        page = folder / "report.html"
        make_report([point.folder for point in points], page)
        print(f"{len(points) - len(diverged)} of {len(points)} runs are done. Open {page}.")
    return 1 if diverged else 0
