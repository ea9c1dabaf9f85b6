"""Reading settings waits for no library that only weights need."""

import subprocess
import sys

HEAVY = {"transformers", "peft", "accelerate", "datasets"}


def loaded_by(program: str) -> set[str]:
    """The libraries that a fresh process has loaded after a program."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_reading_settings_loads_nothing_that_only_weights_need():
    program = "from purified_opsd.recipes import read_recipe\nread_recipe('qwen3-8b.math-cot.pmi')"
    assert not loaded_by(program) & HEAVY
