"""Signals that ask the quickstart to stop: remembered, so that nothing is interrupted that must be done first."""

import ctypes
import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Remembered:
    """While entered, remembers the first signal and dies of none; one that is ignored, as under nohup, stays ignored."""

    def __init__(self):
        self.number = 0
        """The signal's, or 0."""

    def __enter__(self) -> "Remembered":
        heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._remember) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number


def end_with_parent() -> None:
    """Called in a child before its program: has Linux send it SIGTERM when its parent dies, however that dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
