"""Imports that take seconds.  A command makes them once its words are known to be right."""

from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals

from purified_opsd.errors import Stopped
from purified_opsd.interrupts import StopRequest, interrupt


@contextmanager
def loading() -> Iterator[None]:
    """Surrounds imports that take seconds.  Raises Stopped where a signal comes meanwhile."""
    with StopRequest(at_first=interrupt) as stop:
        try:
            yield
        except BaseException as error:
            if not stop.signal:
                raise
            name = Signals(stop.signal).name  # libraries make other errors of a KeyboardInterrupt
            raise Stopped(
                f"Stopped by {name} before anything was done.", 128 + stop.signal
            ) from error
