"""purified-opsd resume"""

import shlex
from pathlib import Path
from typing import Annotated

from purified_opsd.errors import Stopped
from purified_opsd.settings import build, override, to_mapping
from purified_opsd.training.config import TrainingConfig, read_config, with_absolute_paths
from purified_opsd.training.run import resume_run

from .launch import say
from .parameters import RunFolder, Settings


def resume(folder: Annotated[Path, RunFolder], /, *settings: Settings) -> int:
    """Go on with a run from its newest good checkpoint, as if it had never stopped.

    --steps N goes on to that many steps in all. Other settings that do not change what the student
    is after can be given anew too, such as --micro-batch-tokens 4096 after running out of memory.
    """
    start = to_mapping(read_config(folder))
    config = with_absolute_paths(build(TrainingConfig, override(TrainingConfig, start, settings)))
    try:
        resume_run(config, folder)
    except Stopped as stop:
        say(f"{stop}\nGo on with: purified-opsd resume {shlex.quote(str(folder))}")
        return stop.exit_code
    return 0
