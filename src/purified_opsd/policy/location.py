"""Where a model is: in a folder here, in the hub's cache, or on the hub."""

import difflib
import json
import logging
import re
from functools import cache
from pathlib import Path

from huggingface_hub import (
    get_hf_file_metadata,
    hf_hub_url,
    is_offline_mode,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from purified_opsd.errors import ModelError

logger = logging.getLogger(__name__)

ADVICE = (
    "Give a hub id that can be reached, or a folder with config.json, model.safetensors, "
    "tokenizer.json and tokenizer_config.json. Weights in pickle format (.bin) are not read: "
    "convert them with save_pretrained."
)
INDEX = "model.safetensors.index.json"


def refuse_bad_folder(path: str) -> None:
    """Raises ModelError where the path is that of a folder and there is none, or no whole model
    in it.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        _refuse_incomplete_folder(path, folder)
    elif folder.exists():
        raise ModelError(f"{path} is a file, and a model is a folder. {ADVICE}")
    elif not _may_be_hub_id(path):
        raise ModelError(
            f"There is no model folder at {path} (looked for {folder.absolute()})."
            f"{_near(folder)} {ADVICE}"
        )


@cache
def only_in_cache(path: str, revision: str | None) -> bool:
    """Asks the hub once for a model that is no folder, before libraries ask for each of its files
    and, where nobody answers, again and again.

    True where the hub cannot be reached and the cache has the model (`local_files_only`).  Raises
    OSError where neither has it.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return False
    cached = isinstance(try_to_load_from_cache(path, "config.json", revision=revision), str)
    here = f"It is no folder here.{_near(folder)}"
    if is_offline_mode():
        if cached:
            return True
        raise ConnectionError(f"It is not in the cache, and HF_HUB_OFFLINE is set. {here}")
    try:
        get_hf_file_metadata(hf_hub_url(path, "config.json", revision=revision))
    except HfHubHTTPError as error:
        if not cached:
            _refuse_answer(error, revision, here)
    except Exception as error:  # the network's, in the words of whichever client the library uses
        if not cached:
            raise ConnectionError(
                f"It is not in the cache, and the hub cannot be reached ({type(error).__name__}: "
                f"{error}). {here}"
            ) from error
        logger.warning("The hub cannot be reached: %s is taken from the cache.", path)
        return True
    return False


def _refuse_answer(error: HfHubHTTPError, revision: str | None, here: str) -> None:
    """Raises FileNotFoundError where the hub says that it has no such model.  Where it is only
    busy, the libraries' own retries are for that.
    """
    reasons: dict[type[HfHubHTTPError], str] = {
        GatedRepoError: "The hub gives it only to those who asked for access. Ask on its page, and "
        "log in with `hf auth login`.",
        RepositoryNotFoundError: "The hub has no model of that name, or a private one (log in with "
        f"`hf auth login`). {here}",
        RevisionNotFoundError: f"The hub has the model, but no revision {revision}.",
        RemoteEntryNotFoundError: "The hub has no config.json of it. A LoRA adapter is evaluated "
        "on its base: `purified-opsd evaluate BASE --adapter FOLDER`.",
    }
    for kind, reason in reasons.items():
        if isinstance(error, kind):
            raise FileNotFoundError(reason) from error


def _may_be_hub_id(path: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", path) is not None


def _near(folder: Path) -> str:
    """The neighbours whose names are like that of a folder that is not there."""
    parent = folder.parent
    names = [file.name for file in parent.iterdir()] if parent.is_dir() else []
    close = difflib.get_close_matches(folder.name, names, 3, cutoff=0.6)
    return f" Near it: {', '.join(str(parent / name) for name in close)}." if close else ""


def _refuse_incomplete_folder(path: str, folder: Path) -> None:
    files = {file.name for file in folder.iterdir()}
    if "adapter_config.json" in files:
        raise ModelError(
            f"{path} holds a LoRA adapter (adapter_config.json), not a model: give the model that "
            "it was trained on. An adapter is evaluated with `purified-opsd evaluate MODEL "
            f"--adapter {path}`; where the folder holds a whole model too, take "
            "adapter_config.json out."
        )
    missing = [name for name in ("config.json", "tokenizer_config.json") if name not in files]
    if not any(name.endswith(".safetensors") for name in files):
        missing.append("*.safetensors")
    missing += [name for name in _shards(path, folder) if name not in files]
    if missing:
        raise ModelError(f"The model folder {path} has no {', '.join(missing)}. {ADVICE}")


def _shards(path: str, folder: Path) -> list[str]:
    """The files that the index of a folder in several pieces names."""
    index = folder / INDEX
    if not index.is_file() or (folder / "model.safetensors").is_file():
        return []
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path}/{INDEX} is damaged: {type(error).__name__}: {error}. Copy it again."
        ) from error
