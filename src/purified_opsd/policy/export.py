"""A trained adapter merged into its base, as an ordinary model folder."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor

from .model import Model, ModelError, load_base, load_tokenizer


def export(settings: Model, adapter: Path, output: Path) -> float:
    """Merges in float32, saves in the dtype of `settings`; returns the share of the update that rounding to it changed.

    The share is ‖rounded − exact‖ / ‖exact − base‖ over all merged weights: near 0 the saved model is the trained one, near 1 it
    has little to do with it.  Raises ModelError where the output exists or the base cannot be loaded; writes all or nothing.
    """
    if output.exists():
        raise ModelError(f"{output} exists already; nothing was written. Give another --output.")
    base = load_base(replace(settings, dtype="float32"), torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    dtype = load_base(settings, torch.device("cpu")).dtype
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    lost = _rounding_loss(before, merged.state_dict(), dtype)
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    merged.to(dtype).save_pretrained(temporary)
    load_tokenizer(settings).save_pretrained(temporary)
    temporary.rename(output)
    return lost


def _rounding_loss(before: dict[str, Tensor], after: dict[str, Tensor], dtype: torch.dtype) -> float:
    error = update = 0.0
    for name, exact in after.items():
        update += (exact - before[name]).square().sum().item()
        if not torch.equal(exact, before[name]):
            error += (exact.to(dtype).float() - exact).square().sum().item()
    return (error / update) ** 0.5 if update else 0.0
