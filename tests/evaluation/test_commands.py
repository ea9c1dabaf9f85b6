"""evaluate, compare and regrade as a user meets them."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from purified_opsd.cli.evaluate import completable
from purified_opsd.errors import Stopped


@pytest.fixture
def run(command, settings):
    """A trained run with checkpoints of steps 1 and 2."""
    code, _, errors = command(
        "train", settings, "--checkpoint-every", "1", "--optimizer.learning-rate", "1e-2"
    )
    assert code == 0, errors
    return "runs/my_run"


@pytest.fixture
def own_set(tmp_path):
    (tmp_path / "own.jsonl").write_text(
        "".join(json.dumps({"q": f"What is {i}?", "answer": str(i)}) + "\n" for i in range(6))
    )
    return "own.jsonl"


SMALL = (
    "--runs",
    "2",
    "--sampling.temperature",
    "1",
    "--sampling.max-new-tokens",
    "12",
)


def test_evaluate_compare_regrade(command, run, own_set, tmp_path):
    words = ("--columns.problem", "q", "--limit", "4", *SMALL)
    code, output, errors = command("evaluate", run, "--benchmarks", own_set, "countdown", *words)
    assert code == 0, errors
    assert "temperature=1.0, top_p=0.95, top_k=0, max_new_tokens=12" in output
    rows = re.findall(
        r"^\| (\S+)(?: \| 0\.0 \(0 to 60\.2\)){3} \|$", output, re.MULTILINE
    )  # of four problems
    assert sorted(rows) == ["base", "step-000001", "step-000002"]
    assert "accuracy 0.0%" in errors  # the bar
    folder = tmp_path / run / "evaluation"
    assert output.endswith("Everything is in runs/my_run/evaluation.\n")
    drawn = {name: (folder / "own" / name / "samples.jsonl").read_bytes() for name in rows}
    assert len(set(drawn.values())) == 3
    assert len(drawn["base"].splitlines()) == 8

    code, output, errors = command("compare", run, run)
    assert code == 0, errors
    assert output.count("| +0.0 [-60.2, +60.2], p = 1.000 ") == 3

    code, output, errors = command("regrade", run)
    assert code == 0, errors
    assert "0 grades changed." in output

    better = (
        shutil.copytree(tmp_path / run, tmp_path / "runs/better")
        / "evaluation/own/step-000002/samples.jsonl"
    )
    rows = [
        json.loads(line) for line in better.read_text().splitlines()
    ]  # answers to three of four questions, both times
    texts = [
        f"\\boxed{{{int(row['id'].removeprefix('row-')) - 1}}}"
        if row["id"] != "row-4"
        else row["text"]
        for row in rows
    ]
    better.write_text(
        "".join(
            json.dumps({**row, "text": text}) + "\n" for row, text in zip(rows, texts, strict=True)
        )
    )
    code, output, errors = command("regrade", "runs/better")
    assert code == 0, errors
    assert "6 from ungraded to correct" in output
    code, output, errors = command("compare", "runs/better", run)
    assert code == 0, errors
    assert re.search(
        r"^\| better/step-000002 \| 0\.0 .* \| 75\.0 ± 25\.0 \| 37\.5 ± ", output, re.MULTILINE
    )
    assert "| +75.0 [-4.6, +154.6], p = 0.250 |" in output

    code, output, errors = command(
        "evaluate", run, "--benchmarks", own_set, *words, "--sampling.temperature", "0.5"
    )
    assert code == 2
    assert "holds samples drawn with temperature = 1.0, and 0.5 is asked for" in errors
    assert (folder / "own" / "base" / "samples.jsonl").read_bytes() == drawn["base"]


READS: list[str] = []
"""Files that were opened for reading, while anybody counts."""
COUNTING: list[bool] = []


def note_reads(event, details):
    if event == "open" and COUNTING:
        file, mode, _ = details
        if str(mode).startswith("r"):
            READS.append(str(file))


sys.addaudithook(note_reads)  # an audit hook stays for good


@contextmanager
def reads_of(*names):
    """Counts how often files of these names are read, by path."""
    counts: dict[str, int] = {}
    READS.clear()
    COUNTING.append(True)
    try:
        yield counts
    finally:
        COUNTING.clear()
    paths = [str(Path(read).absolute()) for read in READS if Path(read).name in names]
    counts.update(Counter(paths))


def test_a_command_reads_each_sample_once(command, run, own_set, tmp_path):
    words = ("evaluate", run, "--benchmarks", own_set, "countdown", "--columns.problem", "q")
    words += ("--limit", "2", *SMALL)
    assert command(*words, "--step", "0", "--step", "1")[0] == 0
    stored = ("samples.jsonl", "grades.jsonl")
    for part in (
        ("--step", "2"),  # pending, beside two that are complete
        (),  # complete
        ("--runs", "3", "--step", "0"),  # a part is pending
    ):
        before = [file for name in stored for file in (tmp_path / run).rglob(name)]
        with reads_of(*stored) as counts:
            code, output, errors = command(*words, *part)
        assert code == 0, errors
        assert "| step-000002 | " in output
        assert counts == {str(file): 1 for file in before}
    assert len(counts) == 12
    with reads_of(*stored) as again:
        assert command("regrade", run)[0] == 0
    assert again == counts
    with reads_of(*stored) as compared:
        assert command("compare", run, run)[0] == 0
    assert compared == {file: 1 for file in counts if "step-000002" in file}


def test_a_model_without_a_run(command, tiny_model, own_set, tmp_path):
    words = ("--columns.problem", "q", "--limit", "2", *SMALL, "--output-dir", "here")
    code, _, errors = command(
        "evaluate", tiny_model, "--benchmarks", own_set, own_set, *words, "--dtype", "float32"
    )
    assert code == 2
    assert "2 benchmarks are called own" in errors
    assert not (tmp_path / "here").exists()
    code, _, errors = command(
        "evaluate", tiny_model, "--benchmarks", own_set, *words, "--dtype", "float32"
    )
    assert code == 0, errors
    assert [file.parent.name for file in (tmp_path / "here").glob("own/*/samples.jsonl")] == [
        "base"
    ]
    code, _, errors = command(
        "evaluate", tiny_model, "--benchmarks", "countdown", *words, "--dtype", "bfloat16"
    )
    assert code == 2
    assert re.search(
        "here/own/base holds samples drawn with weights = .* float32, and .* bfloat16 is asked for",
        errors,
    )
    assert json.loads((tmp_path / "here/subject.json").read_text())["dtype"] == "float32"


def test_a_model_with_an_adapter_is_drawn_as_the_run_it_comes_from(
    command, run, tiny_model, own_set, tmp_path
):
    words = ("--columns.problem", "q", "--limit", "3", *SMALL)
    code, _, errors = command(
        "evaluate", run, "--benchmarks", own_set, "--step", "0", "--step", "2", *words
    )
    assert code == 0, errors
    adapter = tmp_path / run / "checkpoints/step-000002/adapter"
    code, output, errors = command(
        "evaluate",
        tiny_model,
        "--adapter",
        adapter,
        "--benchmarks",
        own_set,
        *words,
        "--dtype",
        "float32",
        "--output-dir",
        "here",
    )
    assert code == 0, errors
    assert re.findall(r"^\| (\S+) \| 0\.0", output, re.MULTILINE) == ["base", "step-000002"]
    said = {"path": str(tiny_model), "dtype": "float32", "adapter": str(adapter)}
    assert json.loads((tmp_path / "here/subject.json").read_text()) == said
    for name in ("base", "step-000002"):
        for file in ("samples.jsonl", "settings.json"):
            assert (tmp_path / "here/own" / name / file).read_bytes() == (
                tmp_path / run / "evaluation/own" / name / file
            ).read_bytes()
    assert command("evaluate", run, "--adapter", adapter, "--benchmarks", own_set, *words)[0] == 2
    (adapter.parent / "state.json").write_text("{}")
    code, _, errors = command(
        "evaluate",
        tiny_model,
        "--adapter",
        adapter,
        "--benchmarks",
        own_set,
        *words,
        "--output-dir",
        "there",
    )
    assert code == 3
    assert "state.json is damaged" in errors
    code, _, errors = command(
        "evaluate",
        tiny_model,
        "--adapter",
        "gone",
        "--benchmarks",
        own_set,
        *words,
        "--output-dir",
        "there",
    )
    assert code == 4
    assert "gone is no adapter in PEFT's format" in errors
    assert not (tmp_path / "there").exists()


def test_a_run_that_was_evaluated_on_the_way_is_gone_on_with(command, settings, own_set, tmp_path):
    asked = (
        "--evaluation.every",
        "2",
        "--evaluation.benchmarks",
        own_set,
        "--evaluation.columns.problem",
        "q",
    )
    asked += (
        "--evaluation.runs",
        "2",
        "--evaluation.limit",
        "3",
        "--evaluation.sampling.max-new-tokens",
        "12",
    )
    code, _, errors = command("train", settings, *asked, "--markers", "let me think")
    assert code == 0, errors
    samples = tmp_path / "runs/my_run/evaluation/own/step-000002/samples.jsonl"
    drawn = samples.read_bytes()
    assert drawn.count(b"\n") == 6
    words = (
        "evaluate",
        "runs/my_run",
        "--benchmarks",
        own_set,
        "--columns.problem",
        "q",
        "--limit",
        "3",
    )
    code, _, errors = command(*words, "--runs", "3")
    assert code == 0, errors
    assert samples.read_bytes().startswith(drawn)
    assert samples.read_bytes().count(b"\n") == 9
    scores = json.loads((tmp_path / "runs/my_run/evaluation/results.json").read_text())["scores"]
    assert [score["marker_counts"]["word"]["by_marker"]["let me think"] for score in scores] == [
        0,
        0,
    ]


BAD = {
    "no such benchmark": (
        3,
        ["--benchmarks", "aime26"],
        "There is no benchmark 'aime26'. Did you mean",
    ),
    "no such column": (3, ["--benchmarks", "own.jsonl"], "own.jsonl:1: it has no column 'problem'"),
    "columns of what": (
        2,
        ["--benchmarks", "own.jsonl", "--columns.question", "q"],
        "There is no setting columns.question.*Settings of columns: columns.problem, ",
    ),
    "no runs": (2, ["--benchmarks", "countdown", "--runs", "0"], "runs must be at least 1, got 0"),
    "no problems": (
        2,
        ["--benchmarks", "countdown", "--limit", "0"],
        "limit must be at least 1, got 0",
    ),
    "greedy many times": (
        2,
        ["--benchmarks", "countdown", "--sampling.temperature", "0"],
        "12 runs at temperature 0 would be one run",
    ),
    "no such step": (
        3,
        ["--benchmarks", "countdown", "--step", "7"],
        "has no checkpoint of step 7; it has 1, 2, and 0 is the base",
    ),
    "no such preset": (
        2,
        ["--benchmarks", "countdown", "--sampling.preset", "paper"],
        "There is no sampling 'paper'",
    ),
    "no card": (
        2,
        ["--benchmarks", "countdown", "--sampling.preset", "card"],
        "The card of .* is not known here",
    ),
    "nothing to evaluate on": (2, ["--runs", "2"], "The setting benchmarks is missing"),
    "what is of training": (2, ["--every", "2"], "--every is of a run's own evaluations"),
    "a slip": (
        2,
        ["--benchmarks", "countdown", "--temperature", "1"],
        "There is no setting temperature. Did you mean sampling.temperature",
    ),
    "no room": (
        4,
        ["--benchmarks", "countdown", "--sampling.max-new-tokens", "1024"],
        "no room is left for a question",
    ),
}


def test_bad_input_is_one_paragraph_and_leaves_nothing(command, run, own_set, tmp_path):
    for name, (expected, words, message) in BAD.items():
        code, _, errors = command("evaluate", run, "--sampling.max-new-tokens", "12", *words)
        assert code == expected, (name, errors)
        said = errors[errors.index("purified-opsd: ") :]
        assert re.search(message, said), (name, said)
        assert said.strip().count("\n\n") == 0
        assert not (tmp_path / run / "evaluation").exists(), name


def test_a_run_that_was_never_evaluated_cannot_be_compared(command, run):
    code, _, errors = command("compare", run, run)
    assert code == 2
    assert "holds no evaluation" in errors
    assert command("regrade", run)[0] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_answered_with_what_to_do(number, tmp_path):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as left, completable(tmp_path):
        signal.raise_signal(number)
    assert left.value.exit_code == 128 + number
    assert str(left.value) == "Stopped. Nothing was drawn yet; the same command draws the rest."
    assert signal.getsignal(number) == before


SIGNALLED_AT_AN_IMPORT = """
import signal, sys
class Hook:
    def find_spec(self, name, *_):
        if name == "accelerate.hooks":
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Hook())
from purified_opsd.cli.main import main
main()
"""


def test_a_signal_before_anything_is_loaded_is_answered_too(tmp_path):
    words = ("evaluate", "gone", "--benchmarks", "countdown")
    run = [sys.executable, "-c", SIGNALLED_AT_AN_IMPORT, *words]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (
        130,
        "purified-opsd: Stopped by SIGINT before anything was done.\n",
    )
