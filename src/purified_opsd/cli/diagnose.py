"""purified-opsd diagnose"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from purified_opsd.training.config import read_config

from .loading import loading
from .parameters import RunFolder, markers_in


def diagnose(
    folder: Annotated[Path, RunFolder],
    /,
    *,
    samples: int = 100,
    seed: int = 0,
    markers: str = "",
) -> None:
    """What drives the teacher: the decomposition of Fig. 3 for the base and every checkpoint, on
    completions of their own.

    Args:
        samples: Completions of each.
        seed: Decides questions and completions.
        markers: Epistemic markers of your own to count, with commas between; the run's if left out.
    """
    config = read_config(folder)
    config = replace(config, markers=markers_in(markers) or config.markers)
    with loading():
        from purified_opsd.inspection.diagnose import diagnose_run
        from purified_opsd.inspection.diagnosis_table import NOTE, diagnosis_table
    diagnosis = diagnose_run(config, samples, seed)
    print(f"{diagnosis_table(config.output_dir)}\n{NOTE}\n\nEverything is in {diagnosis}.")
