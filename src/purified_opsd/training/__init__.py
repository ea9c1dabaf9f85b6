"""The training loop, and how a run survives."""

from .checkpoint import CheckpointError, State, checkpoint_folder, list_checkpoints, newest_good, verify
from .gap import Alarm, OffPolicy
from .run import AdamW, Run
from .schedule import Constant, Cosine, Linear
from .stopping import Interrupted, Stopped

__all__ = [
    "AdamW",
    "Alarm",
    "CheckpointError",
    "Constant",
    "Cosine",
    "Interrupted",
    "Linear",
    "OffPolicy",
    "Run",
    "State",
    "Stopped",
    "checkpoint_folder",
    "list_checkpoints",
    "newest_good",
    "verify",
]
