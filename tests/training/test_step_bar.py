"""The bar moves while completions are drawn, on a terminal; elsewhere it says a step a line."""

import io

import pytest
from tqdm import tqdm

from purified_opsd.sampling.drawing import report_drawn
from purified_opsd.training.step_bar import StepBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn_on(stream: io.StringIO) -> str:
    """What is shown of a first step in which 2 of 32 completions are finished."""
    with tqdm(total=4, file=stream, mininterval=0) as bar:
        step_bar = StepBar(bar)
        with step_bar.drawing(32):
            report_drawn(1_500, ended=2)
        step_bar.step({"loss": 0.25, "tokens_per_second": 90.0, "completion_length": 12.0})
    return stream.getvalue()


def test_a_terminal_shows_what_is_drawn_before_the_first_step_is_taken(monkeypatch):
    monkeypatch.setattr("purified_opsd.training.step_bar.REFRESH_S", 0.0)
    shown = drawn_on(Terminal())
    assert "0/4" in shown.partition("drawing: 2 of 32 completions, 1,500 tokens")[0]
    last = shown.rpartition("\r")[2]
    assert "1/4" in last
    assert "loss 0.25 · 90 tokens/s · length 12" in last
    assert "drawing" not in last


def test_it_is_not_redrawn_at_every_token():
    shown = drawn_on(Terminal())
    assert shown.count("drawing: ") == 1  # at once, and then five times a second


@pytest.mark.parametrize("stream", [io.StringIO])
def test_a_file_is_not_filled_with_it(stream):
    shown = drawn_on(stream())
    assert "drawing" not in shown
    assert "loss 0.25" in shown
