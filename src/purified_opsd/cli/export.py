"""purified-opsd export"""

from pathlib import Path
from typing import Annotated

from purified_opsd.errors import RunError, SettingsError
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.training.checkpoint import (
    checkpoint_folder,
    list_checkpoints,
    newest_valid,
    verify,
)
from purified_opsd.training.config import read_config
from purified_opsd.training.retention import why_missing

from .loading import loading
from .parameters import RunFolder

ROUNDED_AWAY = 0.1
"""Share of the update from which it is better to serve base and adapter apart."""


def export(
    folder: Annotated[Path, RunFolder],
    /,
    *,
    output: Path,
    step: int | None = None,
    best: bool = False,
) -> None:
    """Merge a checkpoint's adapter into its base (in float32) and save it in the base's dtype.

    Args:
        output: Where the merged model goes; must not exist.
        step: Which checkpoint; the newest good one if left out.
        best: Instead, the one of highest accuracy in the run's own evaluations.
    """
    if output.exists():
        raise SettingsError(f"{output} exists already; nothing was written. Give another --output.")
    if best:
        step = _best_step(folder, step)
    model = read_config(folder).model
    checkpoint = checkpoint_folder(folder, _checkpoint_step(folder, step))
    verify(checkpoint)
    with loading():
        from purified_opsd.policy.export import TEXTS
        from purified_opsd.policy.export import export as export_model
    exported = export_model(model, checkpoint / "adapter", output)
    print(f"{output}: {Path(model.path).name} with the adapter of {checkpoint.name}.")
    print(f"Rounding to the saved dtype changed the update by {exported.rounding:.1%} of its norm.")
    print(
        f"Read again and compared with the adapter on {len(TEXTS)} texts: logits within "
        f"{exported.logits:.2g}, KL {exported.kl:.2g} nats a token; training moved it by "
        f"{exported.update_kl:.2g}."
    )
    if exported.rounding > ROUNDED_AWAY:
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
        why = "" if step is None else why_missing(folder, step)
        raise RunError(f"{folder} has no good checkpoint{which}; {has}.{why}")
    return newest.step if step is None else step


def _best_step(folder: Path, step: int | None) -> int:
    """Returns the step of the best checkpoint, and says how it was chosen."""
    if step is not None:
        raise SettingsError(
            f"--best and --step {step} each name a checkpoint; nothing was written. Give one."
        )
    best = RunReader(folder).checkpoints().best
    if best is None:
        raise RunError(
            f"{folder} has no best checkpoint: none was evaluated while it trained "
            "(evaluation.every). Choose one with --step."
        )
    print(
        f"Step {best.step} is the best of {best.of} evaluated checkpoints: {best.accuracy:.1%} on "
        "the questions by which it was chosen, so expect less elsewhere."
    )
    return best.step
