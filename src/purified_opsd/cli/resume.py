"""purified-opsd resume"""

import shlex
from pathlib import Path
from typing import Annotated

from purified_opsd.errors import SettingsError, Stopped
from purified_opsd.settings.build import build, override, read_overrides, to_mapping
from purified_opsd.training.config import TrainingConfig, read_config

from .loading import loading
from .parameters import RunFolder, Settings
from .rank_zero import say


def resume(
    folder: Annotated[Path, RunFolder], /, *settings: Settings, allow_changes: bool = False
) -> int:
    """Go on with a run from its newest good checkpoint, as if it had never stopped.

    --steps N goes on to that many steps in all. Settings that do not change the student can be
    given anew: where and in what portions it is computed (--micro-batch-tokens 4096 after running
    out of memory, --sampler, --sharding, --kernels), what is kept and watched (--checkpoint-every,
    --keep-checkpoints, --evaluation, --trackers, --alarm, --markers). Everything else, such as
    --optimizer.learning-rate, is refused.

    Args:
        allow_changes: Take settings and data that change the student. Each is recorded with the
            step after which it came in, and the report shows it. Another base model, and another
            rank, alpha or targets of the adapter stay refused, since no checkpoint fits them.
    """
    if "output_dir" in read_overrides(TrainingConfig, settings):
        raise SettingsError(
            f"A run goes on in its own directory, {folder}, so --output-dir has no meaning here; "
            "nothing was done. Leave it out; for a run that branches off, copy the directory and "
            "resume the copy."
        )
    start = to_mapping(read_config(folder))
    config = build(TrainingConfig, override(TrainingConfig, start, settings))
    with loading():
        from purified_opsd.training.changes import permit_changes, refuse_changes
        from purified_opsd.training.run import resume_run
    try:
        resume_run(config, folder, permit_changes if allow_changes else refuse_changes)
    except Stopped as stop:
        say(f"{stop}\nGo on with: purified-opsd resume {shlex.quote(str(folder))}")
        return stop.exit_code
    return 0
