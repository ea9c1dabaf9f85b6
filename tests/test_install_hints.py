"""Every `pip install` that a message or a page gives works: this project is on no index, and its
extras come from the folder of its source.
"""

import re
import tomllib
from pathlib import Path

from purified_opsd.sampling.vllm_api import INSTALL_VLLM

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TEXTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "src").rglob("*.py")),
]


def test_no_hint_names_this_project_as_a_package():
    for file in TEXTS:
        text = file.read_text()
        assert "purified-opsd[" not in text, file
        assert not re.search(r"pip install ['\"]?purified-opsd", text), file
        for extra in re.findall(r"'\.\[(\w+)\]'", text):
            assert extra in EXTRAS, file


def test_the_vllm_that_is_named_is_the_extras():
    assert [f"pip install '{EXTRAS['vllm'][0]}'"] == [INSTALL_VLLM]


def test_the_extra_that_a_missing_tracker_names_brings_every_tracker():
    assert set(EXTRAS["trackers"]) == {"tensorboard", "wandb", "trackio"}
