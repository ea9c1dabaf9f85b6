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

PLACES = (Path("/dev/shm"), Path(tempfile.gettempdir()))
"""Where versions go if no directory is named: the first with room."""
ROOM = 3
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
    """Writes versions below `directory` (None: a place of its own choice), each in the place of the
    one before.
    """

    def __init__(self, directory: Path | None, model: PeftModel):
        """Raises ModelError where there is no room."""
        place = _roomy(PLACES if directory is None else (_made(directory),), _bytes(model))
        _sweep(place)
        self.owned = tempfile.TemporaryDirectory(
            prefix=PREFIX, dir=place, ignore_cleanup_errors=True
        )
        self.folder = Path(self.owned.name)
        self.lock = (self.folder / ".lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.version: AdapterVersion | None = None

    def write(self, model: PeftModel) -> AdapterVersion:
        """The adapter as it is now; the version before is removed, unless it is the same.  Raises
        ModelError where it cannot be.
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
            name = f"opsd-{hashlib.file_digest(weights, 'blake2b').hexdigest()[:24]}"
        before = self.version
        if before and before.name == name:
            shutil.rmtree(temporary)
            return before
        self.version = AdapterVersion(name, temporary.rename(self.folder / name))
        if before:
            shutil.rmtree(before.folder)
        return self.version


def _made(directory: Path) -> Path:
    place = directory.expanduser().resolve()  # a server may run in another folder
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"sampler.directory cannot be made: {error}. Name a folder that this process may write "
            "to."
        ) from error
    return place


def _bytes(model: PeftModel) -> int:
    return sum(
        tensor.nbytes
        for tensor in get_peft_model_state_dict(model, save_embedding_layers=False).values()
    )


def _roomy(places: tuple[Path, ...], needed: int) -> Path:
    for place in places:
        if (
            place.is_dir()
            and os.access(place, os.W_OK)
            and shutil.disk_usage(place).free >= ROOM * needed
        ):
            return place
    raise ModelError(
        f"There is no room for {ROOM} versions of the adapter ({needed / 1e6:.0f} MB each) in "
        f"{' or '.join(map(str, places))}. Name a folder with room that the sampler's process can "
        "read: --sampler.directory FOLDER."
    )


def _sweep(place: Path) -> None:
    """Removes what processes that were killed have left: folders whose lock nobody holds."""
    old = time.time() - YOUNG_S
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / ".lock").open("r+") as lock:
            if folder.stat().st_mtime < old:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
