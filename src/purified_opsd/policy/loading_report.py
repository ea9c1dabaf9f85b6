"""transformers' loading report, read strictly: a model's weights are those of its files, whole."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel

from purified_opsd.errors import ModelError

logger = logging.getLogger(__name__)

NAMED = 3
"""How many tensors a message names."""


@contextmanager
def quiet_report() -> Iterator[None]:
    """Keeps transformers' own loading report off the console: `refuse_incomplete` says it."""
    transformers_logger = logging.getLogger("transformers.modeling_utils")
    transformers_logger.addFilter(_is_error)
    try:
        yield
    finally:
        transformers_logger.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def refuse_incomplete(path: str, base: PreTrainedModel, report: Mapping[str, Any]) -> None:
    """Takes transformers' loading report (`output_loading_info`).

    Raises ModelError for a tensor that is in the model and not in the files, or has another shape
    there, and for one in the files that belongs to the decoder or the head and is not in the model.
    What else the files hold, such as another task's head, is named in a warning.
    """
    own = base.state_dict().keys()
    if any(".lora_" in name for name in own):
        raise ModelError(
            f"{path} brings a LoRA adapter beside the model (adapter_config.json), which would be "
            "part of the base. Give the model alone; an adapter is evaluated with `purified-opsd "
            "evaluate MODEL --adapter FOLDER`."
        )
    missing, unexpected = report["missing_keys"], report["unexpected_keys"]
    needed, foreign = _split_unexpected(base, unexpected)
    if missing:
        raise ModelError(
            f"The files of {path} lack {len(missing)} of the {len(own)} tensors that its "
            f"config.json asks for: {_few(missing)}. They would be random numbers. "
            f"{_missing_advice(base, missing, unexpected)}"
        )
    if report["mismatched_keys"]:
        name, in_file, in_model = min(report["mismatched_keys"])
        raise ModelError(
            f"In the files of {path} {len(report['mismatched_keys'])} of {len(own)} tensors have "
            f"another shape than its config.json asks for: {name} is {list(in_file)} in the file "
            f"and {list(in_model)} in the model. Files and config.json are of two models: copy "
            "both again from one place."
        )
    if needed:
        raise ModelError(
            f"The files of {path} hold weights of the decoder or the head ({len(needed)}) for "
            f"which its config.json has no place: {_few(needed)}. Without them it is another "
            f"model. {_layers_advice(base, needed)}"
        )
    if foreign:
        logger.warning(
            "The files of %s hold weights that are not the language model's, left out: %s.",
            path,
            _few(foreign),
        )


def _split_unexpected(
    base: PreTrainedModel, unexpected: Collection[str]
) -> tuple[list[str], list[str]]:
    """The tensors of the decoder or the head, and those of something else, by where their names
    begin: like the model's own, or like the decoder's in files that were saved without a head.
    """
    roots = {name.split(".")[0] for name in base.state_dict()}
    roots |= {name for name, _ in base.get_decoder().named_children()}
    needed = [name for name in unexpected if name.split(".")[0] in roots]
    return sorted(needed), sorted(set(unexpected) - set(needed))


def _missing_advice(
    base: PreTrainedModel, missing: Collection[str], unexpected: Collection[str]
) -> str:
    """What the gap looks like, and what to do."""
    own = base.state_dict().keys()
    if len(missing) >= len(own) - 1 and unexpected:
        return (
            f"The files hold others, such as {_few(unexpected)}: they are of another architecture, "
            "or were saved under other names. Give a folder that transformers' save_pretrained has "
            "written."
        )
    head = base.get_output_embeddings()
    heads = [name for name, module in base.named_modules() if module is head]
    if heads and all(name.startswith(f"{heads[0]}.") for name in missing):
        return (
            "If its head is its embedding, set tie_word_embeddings to true in config.json; else "
            "copy the files again."
        )
    return _layers_advice(base, missing)


def _layers_advice(base: PreTrainedModel, names: Collection[str]) -> str:
    """What to do where the config has more or fewer layers than the files."""
    layers = {int(part) for name in names for part in name.split(".") if part.isdigit()}
    count = base.config.get_text_config().num_hidden_layers
    beyond = sorted(layer for layer in layers if layer >= count)
    if beyond:
        return (
            f"config.json says num_hidden_layers: {count}, and the files hold {max(beyond) + 1} "
            "layers: copy config.json again from where the files are from."
        )
    if layers and layers == set(range(min(layers), count)):
        return (
            f"config.json says num_hidden_layers: {count}; if the files hold {min(layers)}, copy "
            "it again from where they are from, else the files."
        )
    return "Copy config.json and the files again from one place."


def _few(names: Collection[str]) -> str:
    ordered = sorted(names)
    rest = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return f"{', '.join(ordered[:NAMED])}{rest}"
