"""The training loop, and how a run survives."""

from .checkpoint import CheckpointError, State, checkpoint_folder, list_checkpoints, newest_good, verify
from .run import AdamW, Run
from .schedule import Constant, Cosine, Linear
from .stopping import Interrupted

__all__ = [
    "AdamW",
    "CheckpointError",
    "Constant",
    "Cosine",
    "Interrupted",
    "Linear",
    "Run",
    "State",
    "checkpoint_folder",
    "list_checkpoints",
    "newest_good",
    "verify",
]
