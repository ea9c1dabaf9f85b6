"""Signals that ask to stop: remembered, so that what must be done first is done first."""

import ctypes
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType


def wait_for_the_step() -> None:
    """Does nothing at a signal: whoever holds the StopRequest looks at it between two steps."""


def interrupt() -> None:
    """Ends at once what is under way, as Ctrl-C does."""
    raise KeyboardInterrupt


class StopRequest:
    """While entered, remembers the first signal instead of dying of it.

    Signals within `grace` seconds of it are taken for the same request: a terminal and a launcher
    both pass Ctrl-C on.  One that comes later ends the process at once.  A signal that the process
    ignores, as one under nohup does SIGHUP, stays ignored.
    """

    GRACE_S = 3.0

    def __init__(
        self,
        signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
        grace: float = GRACE_S,
        at_first: Callable[[], None] = wait_for_the_step,
    ):
        self.signal = 0
        """The first signal's number, or 0."""
        self.grace = grace
        self._signals, self._at_first = signals, at_first
        self._since = 0.0

    def __enter__(self) -> "StopRequest":
        heard = [number for number in self._signals if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._remember) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:
            self.signal, self._since = number, time.monotonic()
            self._at_first()
        elif time.monotonic() - self._since > self.grace:
            self.__exit__()
            signal.raise_signal(number)


def end_with_parent() -> None:
    """Has Linux send this process SIGTERM when its parent dies, however that dies; called in a
    child before its program.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
