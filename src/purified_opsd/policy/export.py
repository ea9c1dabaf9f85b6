"""A trained adapter merged into its base, as an ordinary model folder."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear

from .loading import load_base, load_tokenizer, saved_dtype
from .model import Model


def export(settings: Model, adapter: Path, output: Path) -> float:
    """Merges in float32, saves in the dtype of `settings`, and returns the share of the update that
    rounding to that dtype changed.

    The share is ‖rounded − exact‖ / ‖exact − base‖ over all merged weights: near 0 the saved model
    is the trained one, near 1 it has little to do with it.  Raises ModelError where the base cannot
    be loaded; writes all or nothing.
    """
    base = load_base(replace(settings, dtype="float32"), torch.device("cpu"))
    dtype = saved_dtype(settings)
    adapted = PeftModel.from_pretrained(base, str(adapter))
    lost = _rounding_share(adapted, dtype)
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    adapted.merge_and_unload().to(dtype).save_pretrained(temporary)
    load_tokenizer(settings).save_pretrained(temporary)
    temporary.rename(output)
    return lost


def _rounding_share(adapted: PeftModel, dtype: torch.dtype) -> float:
    error = update = 0.0
    for layer in adapted.modules():
        if not isinstance(layer, LoraLinear):
            continue
        delta = layer.get_delta_weight("default").detach()
        exact = cast(torch.nn.Linear, layer.get_base_layer()).weight.detach() + delta
        update += delta.square().sum().item()
        error += (exact.to(dtype).float() - exact).square().sum().item()
    return (error / update) ** 0.5 if update else 0.0
