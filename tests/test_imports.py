"""What needs no weights waits for no library that only weights need."""

import json
import subprocess
import sys

import pytest

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


COMMANDS = """
import contextlib, io, json, sys
from purified_opsd.cli.main import main

def answer(words):
    said = io.StringIO()
    sys.argv = ["purified-opsd", *words]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            code = end.code
    libraries = sorted({name.partition(".")[0] for name in sys.modules})
    return [words, code or 0, said.getvalue(), libraries]

for words in json.loads(sys.argv[1]):
    print(json.dumps(answer(words)))
"""


def answers(commands, folder):
    """Each command with its code, its words and the libraries loaded, in one fresh process."""
    run = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_needs_no_weights_is_answered_without_what_only_weights_need(tmp_path):
    miniature = ["train", "miniature.pmi"]
    expected = {
        "qwen3-8b.math-cot.pmi": ["recipes"],
        "learning_rate": ["recipes", "miniature.pmi"],
        "optimizer.max_grad_norm": ["settings", "optimizer"],
        "There is no recipe": ["train", "qwen3-8b.mathcot.pmi"],
        "Did you mean optimizer.learning_rate": [*miniature, "--lerning-rate", "1"],
        "valid integer": [*miniature, "--steps", "many"],
        "gone.yaml cannot be read": ["train", "gone.yaml"],
        "There is no data set at gone.jsonl": [*miniature, "--data", "gone.jsonl"],
        "Hub id or folder of the model": ["train", "--help"],
        "no setting learning_rates": ["resume", ".", "--learning-rates", "1"],
        "gone is no run directory": ["resume", "gone"],
        "runs: must be": ["evaluate", "gone", "--runs", "many", "--benchmarks", "aime24"],
        "gone2 is no run directory": ["diagnose", "gone2"],
        "gone3 is no run directory": ["microscope", "gone3"],
        "gone4 is no run directory": ["sample", "gone4"],
        "gone5 is no run directory": ["export", "gone5", "--output", "model"],
        "gone6 is no run directory": ["report", "gone6"],
        "gone7 holds no evaluation": ["compare", "gone7", "gone7"],
        "gone8 holds no evaluation": ["regrade", "gone8"],
        "There is no setting steep": ["sweep", "miniature.pmi", "--steep", "1", "2"],
        "There is no recipe 'none'": ["serve", "none"],
        "There is no data set at gone2.jsonl": [
            *("prepare", "gone2.jsonl", "--output", "x.parquet", "--benchmarks", "null")
        ],
        "on 1 x h100-80gb": ["plan", "qwen3-8b.math-cot.pmi", "--batch-size", "8"],
    }
    (tmp_path / "config.yaml").write_text("model: m\ndata: d\noutput_dir: .\n")
    given = answers(list(expected.values()), tmp_path)
    for said, (words, code, output, libraries) in zip(expected, given, strict=True):
        assert said in output, output
        assert code in (0, 2, 3), output
        assert not set(libraries) & HEAVY, f"{words} loads {set(libraries) & HEAVY}"


@pytest.mark.parametrize("words", [["compare", "a", "b"], ["report", "a"], ["regrade", "a"]])
def test_what_reads_results_alone_is_answered_without_torch(tmp_path, words):
    [[_, code, _, libraries]] = answers([words], tmp_path)
    assert code == 2
    assert "torch" not in libraries
