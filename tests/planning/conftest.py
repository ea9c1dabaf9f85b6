"""The fixtures of training: what is inspected and planned is a run."""

from ..training.conftest import adapted_job, checkpoint_bytes, tiny_run

__all__ = ["adapted_job", "checkpoint_bytes", "tiny_run"]
