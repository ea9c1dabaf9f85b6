"""purified-opsd microscope"""

from pathlib import Path
from typing import Annotated

from purified_opsd.training.config import read_config

from .loading import loading
from .parameters import RunFolder, Several


def microscope(
    folder: Annotated[Path, RunFolder],
    /,
    *,
    samples: int = 4,
    step: Annotated[list[int] | None, Several] = None,
    seed: int = 0,
) -> None:
    """What teacher and purified target want at every token of a few completions: a page of the base
    and every checkpoint.

    Args:
        samples: Completions of each.
        step: Which checkpoints, 0 for the base; all if left out.
        seed: Decides questions and completions.
    """
    config = read_config(folder)
    with loading():
        from purified_opsd.inspection.microscope import microscope_run
    page = microscope_run(config, step, samples, seed)
    print(f"Open {page} ({page.stat().st_size / 1e6:.1f} MB).")
