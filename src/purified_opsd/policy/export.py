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
    # 1. The base in float32, its adapter on.
    exact_settings = replace(settings, dtype="float32")
    base = load_base(exact_settings, torch.device("cpu"))
    dtype = saved_dtype(settings)
    adapted = PeftModel.from_pretrained(base, str(adapter))
    lost = _rounding_share(adapted, dtype)
    # 2. Merged and saved under a temporary name.
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    merged = adapted.merge_and_unload().to(dtype)
    merged.save_pretrained(temporary)
    tokenizer = load_tokenizer(settings)
    tokenizer.save_pretrained(temporary)
    # 3. Complete: it gets its name.
    temporary.rename(output)
    return lost


def _rounding_share(adapted: PeftModel, dtype: torch.dtype) -> float:
    error = 0.0
    update = 0.0
    for layer in adapted.modules():
        if not isinstance(layer, LoraLinear):
            continue
        delta = layer.get_delta_weight("default").detach()
        base_layer = cast(torch.nn.Linear, layer.get_base_layer())
        exact = base_layer.weight.detach() + delta
        rounded = exact.to(dtype).float()
        update += _squared_norm(delta)
        error += _squared_norm(rounded - exact)
    if not update:
        return 0.0
    return (error / update) ** 0.5


def _squared_norm(tensor: torch.Tensor) -> float:
    return tensor.square().sum().item()
