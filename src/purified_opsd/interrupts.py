"""How a run ends before its last step: saved, with an exit code that says why.

SIGINT and SIGTERM end it after the step under way; one more, later, ends it at once.

Signals that ask the quickstart to stop: remembered, so that nothing is interrupted that must be
done first.
"""

import ctypes
import signal
import sys
import time
from types import FrameType


class StopRequest:
    """While entered, remembers the first signal instead of dying of it.

    Signals within `GRACE` seconds of it are taken for the same request: a terminal and a launcher
    both pass Ctrl-C on.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)
    GRACE = 3.0

    def __init__(self):
        self.signal = 0
        """The signal's number, or 0."""
        self._since = 0.0

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._remember) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:
            self.signal, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > self.GRACE:
            self.__exit__()
            signal.raise_signal(number)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class FirstSignal:
    """While entered, remembers the first signal and dies of none; one that is ignored, as under
    nohup, stays ignored.
    """

    def __init__(self):
        self.number = 0
        """The signal's, or 0."""

    def __enter__(self) -> "FirstSignal":
        heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._remember) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number


def end_with_parent() -> None:
    """Called in a child before its program: has Linux send it SIGTERM when its parent dies, however
    that dies.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
