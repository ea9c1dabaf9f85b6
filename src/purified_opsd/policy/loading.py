"""From a model's name and an adapter's settings to a loaded policy, or an error that says what
to do.

Weights come from safetensors only, and a model's own Python code stays off unless the settings
repeat that model's name.
"""

from pathlib import Path
from typing import cast

import torch
from peft import get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from purified_opsd.errors import ModelError

from .decoding_check import check_decoding
from .lm_head import find_head, output_layer
from .model import LoRA, Model, Policy
from .turn_end import set_eos_ids

_ADVICE = (
    "Give a hub id that can be reached, or a folder with config.json, model.safetensors, "
    "tokenizer.json and tokenizer_config.json. Weights in pickle format (.bin) are not read: "
    "convert them with save_pretrained."
)


def load_policy(
    settings: Model,
    adapter: LoRA,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    device: torch.device,
) -> Policy:
    """The base and a fresh adapter by PEFT, whose initialisation is a function of `seed`; until it
    is trained the student is its base.

    Raises ModelError where the weights cannot be loaded or the adapter does not fit.
    """
    base = load_base(settings, device)
    torch.manual_seed(seed)
    try:
        model = get_peft_model(base, adapter.peft_config())
    except ValueError as error:
        raise _misfit(settings, adapter, base, error) from error
    _refuse_adapted_head(settings, adapter, base)
    if settings.gradient_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    set_eos_ids(base, tokenizer)
    policy = Policy(model, tokenizer, find_head(base))
    check_decoding(policy)
    return policy


def _misfit(settings: Model, adapter: LoRA, base: PreTrainedModel, error: ValueError) -> ModelError:
    """What to tell of an adapter that PEFT could not put into the base."""
    if "target modules" not in str(error).lower():
        return ModelError(
            f"PEFT refuses the adapter {adapter} on {settings.path}: {_first_line(error)}"
        )
    linears = set()
    for name, module in base.named_modules():
        if isinstance(module, nn.Linear):
            linears.add(name.rsplit(".", 1)[-1])
    return ModelError(
        f"LoRA finds no layers {', '.join(adapter.targets)} in {settings.path}, whose linear "
        f"layers are called {', '.join(sorted(linears))}. Name some of those in adapter.targets, "
        "or say all-linear."
    )


def _refuse_adapted_head(settings: Model, adapter: LoRA, base: PreTrainedModel) -> None:
    """Raises ModelError where the adapter is on the head, too."""
    if any("lora_" in name for name, _ in output_layer(base).named_parameters()):
        raise ModelError(
            f"adapter.targets ({', '.join(adapter.targets)}) puts LoRA on the head of "
            f"{settings.path}. Student, base, teacher and probe are compared through one head, "
            "which must therefore stay frozen. Leave the head out of adapter.targets."
        )


def load_base(settings: Model, device: torch.device) -> PreTrainedModel:
    """The causal language model.  Raises ModelError where it cannot be loaded."""
    _check_folder(settings.path)
    dtype = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
    try:
        base = AutoModelForCausalLM.from_pretrained(
            settings.path,
            revision=settings.revision,
            dtype=dtype,
            attn_implementation=settings.attention,
            use_safetensors=True,
            trust_remote_code=_trusted(settings),
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"The model {settings.path} cannot be loaded: {_first_line(error)} {_ADVICE}"
        ) from error
    if base.dtype == torch.float16:
        raise ModelError(
            f"{settings.path} is in float16, in which the small gradients of this loss vanish. "
            "Load it with --model.dtype bfloat16, or float32 (evaluate: --dtype)."
        )
    return cast(PreTrainedModel, cast(nn.Module, base).to(device))


def load_tokenizer(settings: Model) -> PreTrainedTokenizerBase:
    """The model's tokenizer.  Raises ModelError where there is none."""
    _check_folder(settings.path)
    try:
        return AutoTokenizer.from_pretrained(
            settings.path, revision=settings.revision, trust_remote_code=_trusted(settings)
        )
    except Exception as error:  # a foreign or damaged file makes the library raise anything
        raise ModelError(
            f"The tokenizer of {settings.path} cannot be loaded: {_first_line(error)} {_ADVICE}"
        ) from error


def saved_dtype(settings: Model) -> torch.dtype:
    """The dtype that the settings name; `auto`: the one the weights were saved in."""
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    return cast(torch.dtype, _load_config(settings).dtype or torch.float32)


def context_length(settings: Model) -> int:
    """Positions that the model was made for.  Raises ModelError where it has no readable
    configuration.
    """
    text = _load_config(settings).get_text_config()
    if "max_position_embeddings" not in text.to_dict():
        raise ModelError(
            f"The configuration of {settings.path} does not say how long its context is: add "
            "max_position_embeddings."
        )
    return text.max_position_embeddings


def _load_config(settings: Model) -> PreTrainedConfig:
    _check_folder(settings.path)
    try:
        return AutoConfig.from_pretrained(
            settings.path, revision=settings.revision, trust_remote_code=_trusted(settings)
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"The configuration of {settings.path} cannot be loaded: {_first_line(error)} {_ADVICE}"
        ) from error


def _trusted(settings: Model) -> bool:
    """Whether the model may run Python code of its own."""
    return settings.trust_remote_code_of == settings.path


def _check_folder(path: str) -> None:
    """Raises ModelError where the path is a folder without a model in it."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return
    files = {file.name for file in folder.iterdir()}
    missing = [name for name in ("config.json", "tokenizer_config.json") if name not in files]
    if not any(name.endswith(".safetensors") for name in files):
        missing.append("*.safetensors")
    if missing:
        raise ModelError(f"The model folder {path} has no {', '.join(missing)}. {_ADVICE}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
