"""Which layers LoRA is put on: the default that fits the model, and what cannot be meant."""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from purified_opsd.errors import ModelError

from .lm_head import decoder_of, output_layer
from .model import ALL_LINEAR, LoRA, Policy, base_of

SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a decoder layer in most families, and the paper's and upstream's targets."""


def peft_config(adapter: LoRA, base: PreTrainedModel, path: str) -> LoraConfig:
    """The adapter in PEFT's terms.  Raises ModelError for a target that the model does not have."""
    targets = resolve_targets(adapter, base, path)
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules="all-linear" if targets == ALL_LINEAR else list(targets),
        exclude_modules=_not_the_language_model(base),
        task_type="CAUSAL_LM",
    )


def resolve_targets(adapter: LoRA, base: PreTrainedModel, path: str) -> tuple[str, ...]:
    """The names that PEFT is given: those of the settings, or the default for this model, which is
    the seven where the decoder has them all, else all of its linear layers by their own names.  In
    a mixture of experts the blocks that hold experts, and with them the routers, are left out, and
    so are layers whose weights the model reads without calling them (Jamba's `dt_proj`).

    Raises ModelError for a name that is no module's, or that of a layer which is not called.
    """
    uncalled = _uncalled_layers(base)
    if adapter.targets is None:
        layers = [name for name in _default_layers(base) if name not in uncalled]
        names = {_last_name(name) for name in layers}
        return SEVEN if names >= set(SEVEN) else tuple(sorted(names))
    if adapter.targets != ALL_LINEAR:
        _refuse_unmatched(adapter.targets, base, path)
    _refuse_uncalled(adapter.targets, uncalled, path)
    return adapter.targets


def refuse_misplaced(adapter: LoRA, model: PeftModel, path: str) -> None:
    """Raises ModelError where the adapter that PEFT has put into the base is on the head, on an
    embedding that is the head, too, or on experts.
    """
    targets = ", ".join(adapter.targets or ("by default",))
    base = base_of(model)
    head, embedding = output_layer(base), cast(nn.Module, base.get_input_embeddings())
    if is_adapted(head):
        raise ModelError(
            f"adapter.targets ({targets}) puts LoRA on the head of {path}. Student, base, teacher "
            "and probe are compared through one head, which must therefore stay frozen. Leave the "
            "head out of adapter.targets."
        )
    if is_adapted(embedding) and base.config.get_text_config().tie_word_embeddings:
        raise ModelError(
            f"adapter.targets ({targets}) puts LoRA on the embedding of {path}, which is its head, "
            "too (tie_word_embeddings). Merged, the update would change the head that it was "
            "trained without. Leave the embedding out of adapter.targets."
        )
    config = cast(LoraConfig, model.peft_config["default"])
    if config.target_parameters:
        raise ModelError(
            f"adapter.targets ({targets}) names layers that {path} has in each of its experts, "
            f"whose weights are one ({', '.join(sorted(config.target_parameters))}). LoRA is not "
            "put on experts or routers here. Leave adapter.targets out, or name layers of the "
            "attention."
        )


def describe(policy: Policy) -> str:
    """How much is trained, in a sentence."""
    trained = policy.adapter_parameters()
    modules = [name.split(".lora_")[0] for name in trained]
    kinds = sorted({_last_name(name) for name in modules})
    count = sum(parameter.numel() for parameter in trained.values())
    whole = sum(parameter.numel() for parameter in policy.base.parameters()) - count
    return (
        f"LoRA on {len(set(modules))} modules ({', '.join(kinds)}): {count:,} parameters beside "
        f"the {whole / 1e6:,.1f} M of the base."
    )


def is_adapted(module: nn.Module) -> bool:
    """Whether PEFT has changed the module or a part of it."""
    return any(
        isinstance(part, BaseTunerLayer | AuxiliaryTrainingWrapper) for part in module.modules()
    )


def linear_layers(base: PreTrainedModel) -> Iterator[str]:
    """The dotted names of the decoder's linear layers."""
    decoder = set(decoder_of(base).modules())
    for name, module in base.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module in decoder:
            yield name


def _default_layers(base: PreTrainedModel) -> list[str]:
    blocks = _expert_blocks(base)
    return [name for name in linear_layers(base) if not blocks & set(name.split("."))]


def _uncalled_layers(base: PreTrainedModel) -> set[str]:
    """The linear layers outside of the experts that a pass does not call, nor any other of the same
    last name: LoRA on them would never act.
    """
    layers = {name: base.get_submodule(name) for name in _default_layers(base)}
    called: set[nn.Module] = set()
    hooks = [
        layer.register_forward_pre_hook(lambda module, _: called.add(module))
        for layer in layers.values()
    ]
    token_11 = torch.zeros(1, 1, dtype=torch.long, device=base.device)
    with torch.no_grad():
        decoder_of(base)(input_ids=token_11, use_cache=False)
    for hook in hooks:
        hook.remove()
    acting = {_last_name(name) for name, layer in layers.items() if layer in called}
    return {name for name in layers if _last_name(name) not in acting}


def _refuse_uncalled(targets: Sequence[str], uncalled: set[str], path: str) -> None:
    meant = [
        name
        for name in sorted(uncalled)
        if targets == ALL_LINEAR or any(f".{name}".endswith(f".{target}") for target in targets)
    ]
    if meant:
        raise ModelError(
            f"adapter.targets ({', '.join(targets)}) puts LoRA on {meant[0]} of {path}, whose "
            "weights the model reads without calling the layer: the adapter there would never act. "
            f"Leave {_last_name(meant[0])} out of adapter.targets, or leave adapter.targets "
            "out for the default."
        )


def _last_name(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _expert_blocks(base: PreTrainedModel) -> set[str]:
    """What the blocks of a decoder layer that hold experts are called, such as `mlp`: an expert is
    a slice of a parameter of three dimensions, or a member of a list in the block.
    """
    names = [
        name
        for name, parameter in base.named_parameters()
        if parameter.ndim == 3 and "conv" not in name
    ]
    names += [name for name, _ in base.named_modules() if "experts" in name.split(".")]
    return {block for block in map(_block, names) if block}


def _block(name: str) -> str | None:
    """The part of a dotted name that follows the layer's number."""
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts[:-1]) if part.isdigit()]
    return parts[numbers[0] + 1] if numbers else None


def _not_the_language_model(base: PreTrainedModel) -> str | None:
    """What PEFT leaves out, as a pattern of names, where a model has linear layers beside those of
    its decoder and its head, as one has that sees images.
    """
    decoder, head = decoder_of(base), output_layer(base)
    own = set(decoder.modules()) | set(head.modules())
    linears = [module for module in base.modules() if isinstance(module, nn.Linear | Conv1D)]
    if all(module in own for module in linears):
        return None
    (name,) = (name for name, module in base.named_modules() if module is decoder)
    return rf"(?!{re.escape(name)}\.).*"


def _refuse_unmatched(targets: Sequence[str], base: PreTrainedModel, path: str) -> None:
    left_out = re.compile(_not_the_language_model(base) or "(?!)")
    names = [name for name, _ in base.named_modules() if name]  # the model itself has none
    modules = [name for name in names if not left_out.fullmatch(name)]
    unmatched = [
        target
        for target in targets
        if not any(name == target or name.endswith(f".{target}") for name in modules)
    ]
    if not unmatched:
        return
    layers = sorted({_last_name(name) for name in linear_layers(base)})
    near = [
        close for name in unmatched for close in difflib.get_close_matches(name, layers, 1, 0.6)
    ]
    hint = f" Did you mean {', '.join(dict.fromkeys(near))}?" if near else ""
    shown = ", ".join(name or "''" for name in unmatched)
    raise ModelError(
        f"LoRA finds no layers {shown} in {path}, whose linear layers are called "
        f"{', '.join(layers)}.{hint} Every name in adapter.targets must be one that the model has: "
        "name some of those, leave adapter.targets out for the default, or say all-linear."
    )
