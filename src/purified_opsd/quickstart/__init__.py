"""`purified-opsd quickstart`: the paper in miniature on a processor with two cores."""

from .arms import ARMS, ArmFailed, Quickstart, Stopped, run_quickstart
from .summary import NOTE, write_summary

__all__ = ["ARMS", "NOTE", "ArmFailed", "Quickstart", "Stopped", "run_quickstart", "write_summary"]
