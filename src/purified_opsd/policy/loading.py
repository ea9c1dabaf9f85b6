"""From a model's name and an adapter's settings to a loaded policy, or an error that says what
to do.

Weights come from safetensors only, and a model's own Python code stays off unless the settings
repeat that model's name.
"""

from typing import Any, cast

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

from purified_opsd.errors import ModelError, first_line

from .decoding_check import check_decoding
from .dropout import silence_dropout
from .lm_head import find_head, plain_outputs
from .loading_report import quiet_report, refuse_incomplete
from .location import ADVICE, only_in_cache, refuse_bad_folder
from .lora_targets import peft_config, refuse_misplaced
from .model import LoRA, Model, Policy
from .turn_end import set_eos_ids
from .vocabulary import refuse_tokens_without_rows
from .weight_check import refuse_other_dtypes, refuse_quantized, refuse_wrong_values


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
    refuse_tokens_without_rows(tokenizer, load_config(settings), settings.path)
    base = load_base(settings, device)
    plain_outputs(base)
    silence_dropout(base, settings.path)
    torch.manual_seed(seed)
    try:
        model = get_peft_model(base, peft_config(adapter, base, settings.path))
    except ValueError as error:
        raise ModelError(
            f"PEFT refuses the adapter {adapter} on {settings.path}: {_reason(error)}"
        ) from error
    refuse_misplaced(adapter, model, settings.path)
    if settings.gradient_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    set_eos_ids(base, tokenizer)
    policy = Policy(model, tokenizer, find_head(base))
    check_decoding(policy)
    return policy


def load_base(settings: Model, device: torch.device) -> PreTrainedModel:
    """The causal language model.  Raises ModelError where it cannot be loaded, or where its
    weights are not, whole, those of its files.
    """
    refuse_bad_folder(settings.path)
    refuse_quantized(settings.path, load_config(settings))
    dtype = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
    try:
        source = _source(settings)
        with quiet_report():
            base, report = cast(Any, AutoModelForCausalLM).from_pretrained(
                settings.path,
                **source,
                # where it looks for an adapter beside the model, which is refused below
                adapter_kwargs={"local_files_only": source["local_files_only"]},
                dtype=dtype,
                attn_implementation=settings.attention,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # the report names them all
            )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"The model {settings.path} cannot be loaded: {_reason(error)} {ADVICE}"
        ) from error
    refuse_incomplete(settings.path, base, report)
    refuse_other_dtypes(settings.path, settings.revision)
    if base.dtype == torch.float16:
        raise ModelError(
            f"{settings.path} is in float16, in which the small gradients of this loss vanish. "
            "Load it with --model.dtype bfloat16, or float32 (evaluate: --dtype)."
        )
    if base.dtype not in (torch.float32, torch.bfloat16):
        raise ModelError(
            f"{settings.path} is in {str(base.dtype).removeprefix('torch.')}, in which nothing is "
            "computed here. Load it with --model.dtype float32, or bfloat16 (evaluate: --dtype)."
        )
    base = cast(PreTrainedModel, cast(nn.Module, base).to(device))
    refuse_wrong_values(settings.path, base)
    return base


def load_tokenizer(settings: Model) -> PreTrainedTokenizerBase:
    """The model's tokenizer.  Raises ModelError where there is none."""
    refuse_bad_folder(settings.path)
    try:
        return AutoTokenizer.from_pretrained(settings.path, **_source(settings))
    except Exception as error:  # a foreign or damaged file makes the library raise anything
        raise ModelError(
            f"The tokenizer of {settings.path} cannot be loaded: {_reason(error)} {ADVICE}"
        ) from error


def saved_dtype(settings: Model) -> torch.dtype:
    """The dtype that the settings name; `auto`: the one the weights were saved in."""
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    return cast(torch.dtype, load_config(settings).dtype or torch.float32)


def context_length(settings: Model) -> int:
    """Positions that the model was made for.  Raises ModelError where it has no readable
    configuration.
    """
    text = load_config(settings).get_text_config()
    if "max_position_embeddings" not in text.to_dict():
        raise ModelError(
            f"The configuration of {settings.path} does not say how long its context is: add "
            "max_position_embeddings."
        )
    return text.max_position_embeddings


def load_config(settings: Model) -> PreTrainedConfig:
    """The model's configuration.  Raises ModelError where there is none."""
    refuse_bad_folder(settings.path)
    try:
        return AutoConfig.from_pretrained(settings.path, **_source(settings))
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"The configuration of {settings.path} cannot be loaded: {_reason(error)} {ADVICE}"
        ) from error


def _source(settings: Model) -> dict[str, Any]:
    """What each of transformers' loaders is told: which files, and whether the model may run
    Python code of its own.
    """
    return {
        "revision": settings.revision,
        "trust_remote_code": settings.trust_remote_code_of == settings.path,
        "local_files_only": only_in_cache(settings.path, settings.revision),
    }


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
