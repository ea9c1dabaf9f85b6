"""A launcher sends SIGTERM to all as soon as one process has ended: one that is slower to end still
ends with the code of the first, and not of that signal.
"""

from pathlib import Path

import pytest

from purified_opsd.settings.build import to_yaml

from ..runs import TORCHRUN, launch
from .test_ending import end_all

SLOW = Path(__file__).with_name("slow_to_end.py")
PATIENCE_S = 300


@pytest.mark.parametrize(
    ("where", "error", "code"),
    [("raising", "FloatingPointError", 1), ("parting", "ServersLost", 75)],
)
def test_the_slower_one_ends_with_the_code_of_the_first(tiny_run, tmp_path, where, error, code):
    recipe = tmp_path / "run.yaml"
    recipe.write_text(to_yaml(tiny_run))
    launcher = launch(TORCHRUN, [SLOW, where, 0, error, 2, "train", recipe])
    try:
        _, said = launcher.communicate(timeout=PATIENCE_S)
    finally:
        end_all(launcher)
    assert said.count(f"exitcode  : {code} ") == 2, said
    assert said.count("Broken on purpose.") == 1
