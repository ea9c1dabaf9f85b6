"""SIGINT and SIGTERM end a run after the step under way; a second signal ends it at once."""

import signal
from types import FrameType


class Interrupted(Exception):
    """The run was asked to stop and has saved itself."""

    def __init__(self, signal_number: int | None, step: int):
        super().__init__(f"Stopped by {signal.Signals(signal_number or signal.SIGTERM).name} after step {step}, which is saved.")
        self.exit_code = 128 + (signal_number or signal.SIGTERM)


class StopRequest:
    """While entered, remembers the first signal instead of dying of it."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.signal: int | None = None

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._remember) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for each, handler in self._before.items():
            signal.signal(each, handler)
