"""The student's adapter as files that vLLM can load: one version at a time, in shared memory where
there is room.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError

from purified_opsd.errors import ModelError

DEFAULT_DIRECTORIES = (Path("/dev/shm"), Path(tempfile.gettempdir()))
"""Where versions go if no directory is named: the first of these with room."""
VERSIONS_WITH_ROOM = 3
"""How many versions must fit: the one that is served, the one being written, and one to spare."""
YOUNG_S = 60.0
"""A folder so young may be one whose owner is about to lock it."""
PREFIX = "purified-opsd-adapters-"


@dataclass(frozen=True)
class AdapterVersion:
    """One state of the adapter."""

    name: str
    """A digest of the weights: no two states share it, and every process gives the same state the
    same name.
    """
    folder: Path


class AdapterPublisher:
    """Writes versions of the adapter into a folder of its own below `directory` (None: one of
    `DEFAULT_DIRECTORIES`).  The folder goes when the publisher goes.
    """

    def __init__(self, directory: Path | None, model: PeftModel):
        """Raises ModelError where there is no room."""
        candidates = DEFAULT_DIRECTORIES if directory is None else (_make_directory(directory),)
        parent = _directory_with_room(candidates, _adapter_bytes(model))
        _remove_abandoned(parent)
        self.owned = tempfile.TemporaryDirectory(
            prefix=PREFIX, dir=parent, ignore_cleanup_errors=True
        )
        self.folder = Path(self.owned.name)
        self.lock = (self.folder / ".lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.version: AdapterVersion | None = None

    def publish(self, model: PeftModel) -> AdapterVersion:
        """Writes the adapter as it is now and removes the version before, unless it is the same.
        Raises ModelError where it cannot be written.
        """
        temporary = self.folder / ".writing"
        try:
            model.save_pretrained(str(temporary), save_embedding_layers=False)
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"The adapter cannot be written for the sampler: {error}. Make room in "
                f"{self.folder.parent}."
            ) from error
        with (temporary / "adapter_model.safetensors").open("rb") as weights:
            digest = hashlib.file_digest(weights, "blake2b").hexdigest()
        name = f"opsd-{digest[:24]}"
        before = self.version
        if before and before.name == name:
            shutil.rmtree(temporary)
            return before
        self.version = AdapterVersion(name, temporary.rename(self.folder / name))
        if before:
            shutil.rmtree(before.folder)
        return self.version


def _make_directory(directory: Path) -> Path:
    directory = directory.expanduser().resolve()  # a server may run in another folder
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"sampler.directory cannot be made: {error}. Name a folder that this process may write "
            "to."
        ) from error
    return directory


def _adapter_bytes(model: PeftModel) -> int:
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    return sum(tensor.nbytes for tensor in tensors.values())


def _directory_with_room(directories: tuple[Path, ...], version_bytes: int) -> Path:
    needed = VERSIONS_WITH_ROOM * version_bytes
    for directory in directories:
        writable = directory.is_dir() and os.access(directory, os.W_OK)
        if writable and shutil.disk_usage(directory).free >= needed:
            return directory
    raise ModelError(
        f"There is no room for {VERSIONS_WITH_ROOM} versions of the adapter "
        f"({version_bytes / 1e6:.0f} MB each) in {' or '.join(map(str, directories))}. Name a "
        "folder with room that the sampler's process can read: --sampler.directory FOLDER."
    )


def _remove_abandoned(directory: Path) -> None:
    """Removes what processes that were killed have left: folders whose lock nobody holds."""
    old = time.time() - YOUNG_S
    for folder in directory.glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / ".lock").open("r+") as lock:
            if folder.stat().st_mtime < old:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
