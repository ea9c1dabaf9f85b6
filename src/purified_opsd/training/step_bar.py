"""The bar of a run: one step after another, and within a step the completions that are drawn."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from purified_opsd.sampling.drawing import reporting

REFRESH_S = 0.2


class StepBar:
    """Shown by one process of a run; `tqdm` is its bar."""

    def __init__(self, bar: tqdm):
        self.bar = bar

    @contextmanager
    def drawing(self, completions: int) -> Iterator[None]:
        """Shows, on a terminal, how many of this process's completions of a step are finished."""
        if self.bar.disable or not self.bar.fp.isatty():
            yield
            return
        finished = tokens = 0
        shown = float("-inf")

        def on_drawn(new_tokens: int, ended: int) -> None:
            nonlocal finished, tokens, shown
            finished, tokens = finished + ended, tokens + new_tokens
            if finished == completions or time.monotonic() - shown >= REFRESH_S:
                shown = time.monotonic()
                self.bar.set_postfix_str(
                    f"drawing: {finished} of {completions} completions, {tokens:,} tokens"
                )

        with reporting(on_drawn):
            on_drawn(0, 0)
            yield

    def step(self, row: Mapping[str, Any]) -> None:
        """Shows that another step was taken, and its numbers."""
        self.bar.set_postfix_str(
            f"loss {row['loss']:.4g} · {row['tokens_per_second']:.0f} tokens/s · length "
            f"{row['completion_length']:.0f}",
            refresh=False,
        )
        self.bar.update()
