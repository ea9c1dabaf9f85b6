"""A trained adapter merged into its base, as an ordinary model folder."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from purified_opsd.errors import ModelError

from .loading import load_base, load_config, load_tokenizer, saved_dtype
from .model import Model
from .vocabulary import refuse_tokens_without_rows

TEXTS = (
    "What is 17 * 23? Think step by step.",
    "Let $a$ and $b$ be positive integers with $a + b = 10$. Find the largest value of $ab$.",
    "Wait, that is not right. Let me check: 3 + 4 = 7, so the answer is \\boxed{7}.",
)
"""What the exported model and the adapter are compared on."""
TOLERANCE = 0.002
"""What the rounding of float32 may change of logits, relative to their norm."""


@dataclass(frozen=True)
class Exported:
    """How close the model in an exported folder is to the adapter that was trained."""

    rounding: float
    """‖rounded − exact‖ / ‖exact − base‖ over all merged weights: near 0 the saved model is the
    trained one, near 1 it has little to do with it."""
    logits: float
    """The largest difference of a centered logit on `TEXTS`."""
    kl: float
    """KL(adapter ‖ exported), in nats a token, the mean over `TEXTS`."""
    update_kl: float
    """KL(adapter ‖ base), likewise: what training has changed."""


def export(settings: Model, adapter: Path, output: Path) -> Exported:
    """Merges in float32, saves in the dtype of `settings`, reads the folder again and compares.

    Raises ModelError where the base cannot be loaded, or where the folder's logits differ from the
    adapter's by more than the rounding of the weights explains; writes all or nothing.
    """
    # 1. The base in float32, its adapter on.
    exact = replace(settings, dtype="float32")
    tokenizer = load_tokenizer(settings)
    refuse_tokens_without_rows(tokenizer, load_config(settings), settings.path)
    base = load_base(exact, torch.device("cpu"))
    dtype = saved_dtype(settings)
    adapted = PeftModel.from_pretrained(base, str(adapter))
    trained_NV = _logits(adapted, tokenizer)
    with adapted.disable_adapter():
        base_NV = _logits(adapted, tokenizer)
    rounding = _rounding_share(adapted, dtype)
    # 2. Merged, before any rounding: the very same model.
    merged = cast(PreTrainedModel, adapted.merge_and_unload())
    _refuse_difference(_logits(merged, tokenizer), trained_NV, "Merged into the base, the adapter")
    # 3. Rounded, and saved under a temporary name.
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        cast(nn.Module, merged).to(dtype)
        merged.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        rounded_NV = _logits(merged.float(), tokenizer)
        del base, adapted, merged
        # 4. Read again: what was saved.
        read = load_base(replace(exact, path=str(temporary), revision=None), torch.device("cpu"))
        read_NV = _logits(read, tokenizer)
        _refuse_difference(read_NV, rounded_NV, "Read from its folder again, the merged model")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    # 5. Complete: it gets its name.
    temporary.rename(output)
    return Exported(
        rounding=rounding,
        logits=(_centered(read_NV) - _centered(trained_NV)).abs().max().item(),
        kl=_kl(trained_NV, read_NV),
        update_kl=_kl(trained_NV, base_NV),
    )


@torch.no_grad()
def _logits(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Float[Tensor, "N V"]:
    """The logits after every token of the texts, laid end to end."""
    pieces = []
    for text in TEXTS:
        ids = cast(Sequence[int], tokenizer.encode(text, add_special_tokens=False))
        pieces.append(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float())
    return torch.cat(pieces)


def _centered(logits_NV: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
    return logits_NV - logits_NV.mean(-1, keepdim=True)


def _kl(logits_NV: Float[Tensor, "N V"], others_NV: Float[Tensor, "N V"]) -> float:
    log_p_NV, log_q_NV = logits_NV.log_softmax(-1), others_NV.log_softmax(-1)
    kl_N = (log_p_NV.exp() * (log_p_NV - log_q_NV)).sum(-1)
    return kl_N.mean().clamp(min=0).item()  # what is below 0 is rounding


def _refuse_difference(
    got_NV: Float[Tensor, "N V"], expected_NV: Float[Tensor, "N V"], what: str
) -> None:
    difference_NV = _centered(got_NV) - _centered(expected_NV)
    share = (difference_NV.norm() / _centered(expected_NV).norm()).item()
    if not share <= TOLERANCE:
        raise ModelError(
            f"{what} has other logits than before: they differ by up to "
            f"{difference_NV.abs().max():.3g} ({share:.1%} of their norm, and rounding explains "
            f"{TOLERANCE:.1%}), as when LoRA lies on a matrix that is used twice. Nothing was "
            "written. Serve the base with the adapter beside it."
        )


def _rounding_share(adapted: PeftModel, dtype: torch.dtype) -> float:
    error = 0.0
    update = 0.0
    for layer in adapted.modules():
        if not isinstance(layer, LoraLayer):
            continue
        delta = cast(Any, layer).get_delta_weight("default").detach()
        base_layer = cast(nn.Linear, layer.get_base_layer())
        exact = base_layer.weight.detach() + delta
        rounded = exact.to(dtype).float()
        update += _squared_norm(delta)
        error += _squared_norm(rounded - exact)
    if not update:
        return 0.0
    return (error / update) ** 0.5


def _squared_norm(tensor: Tensor) -> float:
    return tensor.square().sum().item()
