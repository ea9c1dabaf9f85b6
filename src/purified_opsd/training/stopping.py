"""How a run ends before its last step: saved, with an exit code that says why.

SIGINT and SIGTERM end it after the step under way; one more, later, ends it at once.
"""

import signal
import time
from types import FrameType


class Stopped(Exception):
    """The run has ended early, and is saved: why, and the exit code that says so."""

    def __init__(self, reason: str, exit_code: int):
        super().__init__(reason)
        self.exit_code = exit_code


class Interrupted(Stopped):
    """By a signal."""

    def __init__(self, signal_number: int, step: int):
        where = f"after step {step}, which is saved" if step else "before the first step"
        super().__init__(f"Stopped by {signal.Signals(signal_number).name} {where}.", 128 + signal_number)


class StopRequest:
    """While entered, remembers the first signal instead of dying of it.

    Signals within `GRACE` seconds of it are taken for the same request: a terminal and a launcher both pass Ctrl-C on.
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
