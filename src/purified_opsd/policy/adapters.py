"""An adapter from a folder in PEFT's format, put on its base: the whole adapter, or an error."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from purified_opsd.errors import ModelError, first_line

from .decoding_check import check_decoding
from .lm_head import find_head, plain_outputs
from .loading import load_base, load_config
from .model import Model, Policy
from .turn_end import set_eos_ids
from .vocabulary import refuse_tokens_without_rows

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def load_adapted(
    settings: Model, adapter: Path, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> Policy:
    """A base with the LoRA adapter in a folder of PEFT's format.

    Raises ModelError where there is no whole adapter, or where the base and the adapter differ in
    any tensor's name or shape: what was loaded would be the base, or something in between.
    """
    config, tensors = _load_config(adapter), _load_tensors(adapter)
    trained_on = config.base_model_name_or_path or "no base"
    config.base_model_name_or_path = settings.path
    refuse_tokens_without_rows(tokenizer, load_config(settings), settings.path)
    base = load_base(settings, device)
    plain_outputs(base)
    try:
        model = cast(PeftModel, get_peft_model(base, config))
    except ValueError as error:
        raise ModelError(
            f"The adapter {adapter} does not fit {settings.path}: PEFT finds no place for it "
            f"({first_line(error)}). Its configuration names {trained_on} as its base; "
            "evaluate it on that one."
        ) from error
    expected = _shapes(get_peft_model_state_dict(model, save_embedding_layers=False))
    stored = _shapes(tensors)
    names = expected.keys() | stored.keys()
    different = [name for name in names if expected.get(name) != stored.get(name)]
    if different:
        name = min(different)
        raise ModelError(
            f"The adapter {adapter} does not fit {settings.path}: of {name} it holds "
            f"{stored.get(name, 'nothing')}, and the model with the settings in {CONFIG} wants "
            f"{expected.get(name, 'nothing')}. Its files are not of one adapter, or it was trained "
            f"on another base: its configuration names {trained_on}."
        )
    set_peft_model_state_dict(model, tensors)
    set_eos_ids(base, tokenizer)
    policy = Policy(model.eval(), tokenizer, find_head(base))
    check_decoding(policy)
    return policy


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _load_config(adapter: Path) -> LoraConfig:
    missing = [name for name in (CONFIG, TENSORS) if not (adapter / name).is_file()]
    if missing:
        raise ModelError(
            f"{adapter} is no adapter in PEFT's format: it has no {' and no '.join(missing)}. Give "
            f"the folder that holds {CONFIG} and {TENSORS}, such as "
            "RUN/checkpoints/step-000050/adapter. Adapters in pickle format (.bin) are not read."
        )
    file = adapter / CONFIG
    try:
        kind = json.loads(file.read_text(encoding="utf-8"))["peft_type"]
        if kind != "LORA":
            raise ModelError(
                f"{file} is of kind {kind}; only LoRA adapters are evaluated. Merge it "
                "and give the model."
            )
        config = cast(LoraConfig, LoraConfig.from_pretrained(str(adapter)))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} is damaged: {type(error).__name__}: {error}. Copy the adapter again."
        ) from error
    if config.bias != "none":
        raise ModelError(
            f"{file} says bias: {config.bias}: the adapter's files replace biases of the base, "
            "which then is the base no more, with the adapter off or on. Merge it and give the "
            "model."
        )
    config.inference_mode = False  # PEFT then makes the adapter's tensors, to be filled later
    return config


def _load_tensors(adapter: Path) -> dict[str, Tensor]:
    try:
        return load_file(adapter / TENSORS)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{adapter / TENSORS} is damaged: {error}. Copy the adapter again."
        ) from error
