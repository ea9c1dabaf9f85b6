"""purified-opsd export"""

from pathlib import Path
from typing import Annotated

from purified_opsd.errors import RunError, SettingsError
from purified_opsd.training.checkpoint import (
    checkpoint_folder,
    list_checkpoints,
    newest_valid,
    verify,
)
from purified_opsd.training.config import read_config

from .loading import loading
from .parameters import RunFolder

ROUNDED_AWAY = 0.1
"""Share of the update from which it is better to serve base and adapter apart."""


def export(folder: Annotated[Path, RunFolder], /, *, output: Path, step: int | None = None) -> None:
    """Merge a checkpoint's adapter into its base (in float32) and save it in the base's dtype.

    Args:
        output: Where the merged model goes; must not exist.
        step: Which checkpoint; the newest good one if left out.
    """
    if output.exists():
        raise SettingsError(f"{output} exists already; nothing was written. Give another --output.")
    model = read_config(folder).model
    checkpoint = checkpoint_folder(folder, _checkpoint_step(folder, step))
    verify(checkpoint)
    with loading():
        from purified_opsd.policy.export import export as export_model
    rounded = export_model(model, checkpoint / "adapter", output)
    print(f"{output}: {Path(model.path).name} with the adapter of {checkpoint.name}.")
    print(f"Rounding to the saved dtype changed the update by {rounded:.1%} of its norm.")
    if rounded > ROUNDED_AWAY:
        adapter = checkpoint / "adapter"
        print(
            f"To serve the model as it was trained, load {model.path} with the adapter {adapter}."
        )


def _checkpoint_step(folder: Path, step: int | None) -> int:
    steps = list_checkpoints(folder)
    newest, _ = newest_valid(folder)
    if newest is None or (step is not None and step not in steps):
        which = "" if step is None else f" of step {step}"
        has = f"it has {', '.join(map(str, steps))}" if steps else "it has none yet"
        raise RunError(f"{folder} has no good checkpoint{which}; {has}.")
    return newest.step if step is None else step
