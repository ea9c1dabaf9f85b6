"""purified-opsd quickstart"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from purified_opsd.errors import Stopped
from purified_opsd.quickstart.arm import ARMS, ArmFailed, Quickstart
from purified_opsd.quickstart.current import linked_files, measurements, newer, program_files
from purified_opsd.quickstart.runner import run_quickstart
from purified_opsd.quickstart.summary_table import summary_files, write_summary

from .report import make_report

QUESTIONS, SAMPLES = 1_924, 1_955
"""All that the miniature has for evaluation and for training."""


def quickstart(
    *,
    output_dir: Path = Path("runs/quickstart"),
    steps: Annotated[int, Parameter(validator=Number(gte=3))] = 60,
    questions: Annotated[int, Parameter(validator=Number(gte=2, lte=QUESTIONS))] = 300,
    samples: Annotated[int, Parameter(validator=Number(gte=2, lte=SAMPLES))] = 100,
    seed: int = 0,
) -> int:
    """The paper in miniature on two processor cores: train, evaluate and diagnose both arms, side
    by side.

    Args:
        output_dir: Where it goes; given again, it goes on.
        steps: Training steps of each arm.
        questions: Held-out questions of the evaluation.
        samples: Completions of the diagnosis.
        seed: Seed of everything random.
    """
    again = f"Go on with: purified-opsd {shlex.join(sys.argv[1:])}"
    settings = Quickstart(steps, questions, samples, seed)
    try:
        run_quickstart(settings, output_dir)
    except Stopped as stop:
        print(f"{stop} {again}", file=sys.stderr)
        return stop.exit_code
    except (ArmFailed, TimeoutError) as error:
        print(f"purified-opsd: {error}\n{again}", file=sys.stderr)
        return error.exit_code if isinstance(error, ArmFailed) else 1
    page = output_dir / "report.html"
    _write_pages(output_dir, page)
    text = (output_dir / "summary.md").read_text(encoding="utf-8")
    print(f"\n{text}")
    figure = output_dir / "summary.png"
    print(f"Open {page}, or {figure} alone. What the students wrote: {output_dir}/*/rollouts/.")
    return 0


def _write_pages(folder: Path, page: Path) -> None:
    """Writes the summary and the report, unless they are newer than all that they show."""
    runs = [folder / arm for arm in ARMS]
    sources = [*program_files(), *(file for run in runs for file in measurements(run))]
    if not newer(summary_files(folder), sources):
        write_summary(folder)
    if not newer(linked_files(page), sources):
        make_report(runs, page)
