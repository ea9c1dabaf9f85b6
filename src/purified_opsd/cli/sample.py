"""purified-opsd sample"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from purified_opsd.errors import SettingsError, refused_as_settings
from purified_opsd.reporting.terminal import completion_text
from purified_opsd.training.config import read_config

from .loading import loading
from .parameters import RunFolder

WIDEST = 100


def sample(
    folder: Annotated[Path, RunFolder],
    /,
    *,
    source: Annotated[
        Literal["target", "teacher", "student", "base"], Parameter(name="--from")
    ] = "target",
    samples: int = 3,
    step: int | None = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    seed: int = 0,
) -> None:
    """Read what the purified target itself would write, or the teacher, the student, the base.

    Args:
        source: Who writes: by default the purified target, the paper's where the run has none.
        samples: How many, each to a question of its own.
        step: Which checkpoint of the student; the newest if left out.
        max_new_tokens: Instead of the run's.
        temperature: Instead of the run's; 0 is greedy.
        seed: Decides questions and draws.
    """
    if step is not None and source != "student":
        raise SettingsError(
            f"--step {step} is of the student, and {source} is the frozen base's. Leave --step "
            "out, or say --from student."
        )
    config = read_config(folder)
    sampling = config.sampling
    with refused_as_settings():
        if max_new_tokens is not None:
            sampling = replace(sampling, max_new_tokens=max_new_tokens)
        if temperature is not None:
            sampling = replace(sampling, temperature=temperature)
    with loading():
        from purified_opsd.inspection.sample import SampleRequest, sample_run
    width = min(WIDEST, shutil.get_terminal_size().columns)
    file = sample_run(
        replace(config, sampling=sampling),
        SampleRequest(source, samples, seed, step),
        lambda row: print(completion_text(row, width), flush=True),
    )
    print(f"Kept in {file}.")
