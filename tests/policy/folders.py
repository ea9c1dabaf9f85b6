"""Model folders that are a little wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def edit_tensors(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Writes the weights of a folder again, as `change` makes them."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {
        key: tensor for key, tensor in tensors.items() if not any(name in key for name in names)
    }


def edit_json(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def save(model, tokens_of: Path, folder: Path) -> Path:
    """Saves a model with the tokenizer of another folder."""
    model.save_pretrained(folder)
    for file in (*tokens_of.glob("*token*"), *tokens_of.glob("*.jinja")):
        shutil.copy(file, folder)
    return folder
