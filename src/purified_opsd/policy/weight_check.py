"""Whether a model's weights are numbers that can be trained on: finite, not quantized, one head."""

import json
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from purified_opsd.errors import ModelError

FLOATS = ("F64", "F32", "F16", "BF16")
"""The dtypes, in safetensors' words, that weights are saved in."""


def refuse_quantized(path: str, config: PreTrainedConfig) -> None:
    """Raises ModelError where the weights are quantized."""
    settings = config.to_dict().get("quantization_config")
    if settings:
        method = settings.get("quant_method", "an unnamed method")
        raise ModelError(
            f"The weights of {path} are quantized ({method}, says its config.json). The base is "
            "one side of every comparison here, and rounded weights are another base, into which "
            "no adapter can be merged. Give the model that it was quantized from, or load it with "
            "transformers, dequantize it and save it with save_pretrained."
        )


def refuse_wrong_values(path: str, base: PreTrainedModel) -> None:
    """Raises ModelError where a tensor holds NaN or infinity, or where the head that the settings
    call tied to the embedding is another matrix.
    """
    for name, tensor in base.state_dict().items():
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor):
            raise ModelError(
                f"The base {path} itself holds NaN or infinity, in {name}: every logit would be "
                "NaN, whatever is trained. Its files are damaged, or were saved after a run that "
                "diverged. Copy them again, or give another model."
            )
    head, embedding = base.get_output_embeddings(), base.get_input_embeddings()
    tied = base.config.get_text_config().tie_word_embeddings
    if tied and isinstance(head, nn.Module) and head.weight is not embedding.weight:
        raise ModelError(
            f"config.json of {path} says that its head is its embedding (tie_word_embeddings), and "
            "its files hold two that differ: programs disagree on which is the head. Set "
            "tie_word_embeddings to false in config.json to use both, or delete the one that is "
            "wrong from the files."
        )


def refuse_other_dtypes(path: str, revision: str | None) -> None:
    """Reads the headers of the weights' files, which lie here once the model is loaded.

    Raises ModelError for a tensor of whole numbers or of 8-bit floats: without the scales that it
    was quantized with, its numbers are not the weights.
    """
    for file in _weight_files(path, revision):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (safe_open is no mapping)
                dtype = tensors.get_slice(name).get_dtype()
                if name.endswith(("weight", "bias")) and dtype not in FLOATS:
                    raise ModelError(
                        f"{file} holds {name} as {dtype}, and weights are saved as "
                        f"{', '.join(FLOATS)}. It is quantized, though config.json has no "
                        "quantization_config. Give the model that it was quantized from."
                    )


def _weight_files(path: str, revision: str | None) -> list[Path]:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        config = try_to_load_from_cache(path, "config.json", revision=revision)
        if not isinstance(config, str):
            return []
        folder = Path(config).parent
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else []
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [folder / name for name in sorted(set(names))]


def _is_finite(tensor: Tensor) -> bool:
    """One pass, without a copy: the extremes of a tensor with a NaN are NaN."""
    low, high = tensor.aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high))
