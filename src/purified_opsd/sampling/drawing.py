"""How far a sampler is with the completions it draws, for whoever wants to show it.

A sampler calls `report_drawn` as it goes; nobody listens but inside `reporting`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

OnDrawn = Callable[[int, int], None]
"""Takes the tokens that were drawn since the last call, and the completions that ended in them."""


def _ignore(tokens: int, ended: int) -> None:
    """Nobody listens."""


_on_drawn: ContextVar[OnDrawn] = ContextVar("on_drawn", default=_ignore)


@contextmanager
def reporting(on_drawn: OnDrawn) -> Iterator[None]:
    """Has `on_drawn` told of all that is drawn inside."""
    token = _on_drawn.set(on_drawn)
    try:
        yield
    finally:
        _on_drawn.reset(token)


def report_drawn(tokens: int, ended: int) -> None:
    """Tells who listens that so many more tokens were drawn, and so many completions ended."""
    _on_drawn.get()(tokens, ended)
