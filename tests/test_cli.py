"""The command line as a user meets it: exit codes, one paragraph an error, nothing half-written."""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

import purified_opsd.cli
from purified_opsd import __version__
from purified_opsd.cli.main import COMMANDS
from purified_opsd.storage.run_dir import RunReader

from .conftest import byte_tokenizer


def test_train_resume_export(command, settings, tmp_path):
    code, output, errors = command(
        "train", settings, "--optimizer.learning-rate", "1e-3", "--steps", "1"
    )
    assert code == 0, errors
    assert "pmi on " in output
    assert "Finished 1 steps" in output
    run = tmp_path / "runs" / "my_run"
    assert (
        yaml.safe_load(RunReader(run).config_file.read_text())["optimizer"]["learning_rate"] == 1e-3
    )

    code, output, _ = command("resume", "runs/my_run", "--steps", "3")
    assert code == 0
    assert "going on after step 1 of 3" in output
    assert len(RunReader(run).metrics()) == 3

    code, output, _ = command("export", "runs/my_run", "--step", "3", "--output", "my_model")
    assert code == 0
    assert "my_model: " in output
    assert "changed the update by 0.0% of its norm" in output

    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "my_model")
    row = RunReader(run).rollouts(3)[0]
    ids = torch.tensor([row.extras["prompt_ids"] + row.completion_ids])
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "my_model").decode(row.completion_ids) == row.text
    )
    with torch.no_grad():
        logits = merged(input_ids=ids).logits[0, len(row.extras["prompt_ids"]) - 1 : -1]
    now = (
        logits.log_softmax(-1).gather(-1, ids[0, len(row.extras["prompt_ids"]) :, None]).squeeze(-1)
    )
    assert (now - torch.tensor(row.extras["trainer_log_probs"])).abs().max() < 0.1


def test_export_in_bfloat16_tells_what_rounding_cost(command, settings, tmp_path, tiny_model):
    half = tmp_path / "half"
    shutil.copytree(tiny_model, half)
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(half)
    command(
        "train",
        settings,
        "--model",
        half,
        "--model.dtype",
        "auto",
        "--steps",
        "1",
        "--optimizer.learning-rate",
        "1e-5",
    )
    code, output, _ = command("export", "runs/my_run", "--output", "my_model")
    assert code == 0
    share = float(output.split("changed the update by ")[1].split("%")[0])
    assert share > 10  # a small update is lost to bfloat16
    assert "load" in output
    assert "with the adapter" in output


def test_short_forms_work_with_recipes(command, tiny_model, problems, tmp_path):
    code, output, errors = command(
        *(
            "train",
            "qwen3-4b.dasd.standard",
            "--model",
            tiny_model,
            "--data",
            problems,
            "--output-dir",
            "runs/x",
            "--steps",
            "1",
        ),
        *("--seed", "3", "--batch-size", "2", "--sampling.max-new-tokens", "4"),
    )
    assert code == 0, errors
    assert "standard on " in output
    saved = yaml.safe_load((tmp_path / "runs/x/config.yaml").read_text())
    assert (saved["seed"], saved["steps"], saved["target"]) == (3, 1, {"kind": "teacher"})


def test_recipes_are_listed_and_printed(command):
    code, output, _ = command("recipes")
    assert code == 0
    assert "qwen3-8b.math-cot.pmi " in output
    code, output, _ = command("recipes", "qwen3-8b.math-cot.pmi")
    assert yaml.safe_load(output)["target"] == {
        "kind": "pmi",
        "beta": 1.0,
        "clip": 10.0,
        "center_rows": None,
    }


def test_a_run_is_planned_without_a_gpu_or_a_download(command):
    code, output, errors = command(
        "plan", "qwen3-8b.math-cot.pmi", "--gpu", "h100-80gb", "--gpus", "8", "--batch-size", "16"
    )
    assert code == 0, errors
    assert "on 8 x h100-80gb\n16 questions a step" in output
    code, _, errors = command("plan", "qwen3-8b.math-cot.pmi", "--gpu", "h1000")
    assert code == 2
    assert "There is no GPU h1000 in the table. Known: " in errors
    code, _, errors = command("plan", "qwen3-8b.math-cot.pmi", "--gpu", "rtx4090-24gb")
    assert code == 2
    assert "are usable. Lower sampling.batch_size" in errors


def bad_model(tmp_path, tiny_model, change):
    folder = shutil.copytree(tiny_model, tmp_path / "bad")
    change(folder)
    return folder


def without_template(folder):
    for file in folder.glob("chat_template*"):
        file.unlink()
    byte_tokenizer(template=None).save_pretrained(folder)


SERVERS = ("--sampler.kind", "vllm-server", "--sampler.urls")
BAD = {
    "unknown recipe": (
        2,
        ["train", "qwen3-8b.mathcot.pmi"],
        "There is no recipe 'qwen3-8b.mathcot.pmi'.*Did you mean",
    ),
    "settings file not there": (2, ["train", "gone.yaml"], "gone.yaml cannot be read"),
    "unknown setting": (
        2,
        ["--lerning-rate", "1"],
        "no setting lerning_rate. Did you mean optimizer.learning_rate",
    ),
    "options before the recipe": (2, ["train", "--weird", "1"], "recipe or YAML file comes first"),
    "output under a file": (
        2,
        ["--output-dir", "empty.jsonl/run"],
        "cannot be made: .*empty.jsonl is no folder",
    ),
    "a negative warm-up": (
        2,
        ["--schedule.warmup-steps", "-5"],
        "warmup_steps must be at least 0, got -5",
    ),
    "not a number": (
        2,
        ["--optimizer.learning-rate", "nan"],
        "needs learning_rate, max_grad_norm and epsilon above 0",
    ),
    "not a run": (2, ["resume", "nowhere"], "nowhere is no run directory: it has no config.yaml"),
    "missing data": (3, ["--data", "gone.jsonl"], "There is no data set at gone.jsonl"),
    "empty data": (3, ["--data", "empty.jsonl"], "empty.jsonl is empty: 0 bytes"),
    "wrong column": (3, ["--data", "column.jsonl"], "column.jsonl:1: it has no column 'problem'"),
    "null field": (
        3,
        ["--data", "null.jsonl"],
        r"null.jsonl:1: its column 'solution' \(solution\) is null",
    ),
    "text that is a number": (3, ["--data", "number.jsonl"], "number.jsonl:1: .* not text"),
    "broken JSON": (3, ["--data", "broken.jsonl"], "broken.jsonl:2: it is not JSON"),
    "not UTF-8": (3, ["--data", "latin.jsonl"], "latin.jsonl:1: it is not UTF-8 at byte"),
    "ids twice": (
        3,
        ["--data", "twice.jsonl"],
        "twice.jsonl:2: its id 'a' already stands at .*twice.jsonl:1",
    ),
    "long reference refused": (
        3,
        ["--data", "long.jsonl", "--prompts.long-reference", "refuse"],
        "long.jsonl:1: its reference does not",
    ),
    "long question": (
        3,
        ["--data", "question.jsonl"],
        "question.jsonl:1: its question does not fit",
    ),
    "no model": (4, ["--model", "gone/model"], "The tokenizer of gone/model cannot be loaded"),
    "no tokenizer": (
        4,
        ["--model", "no_tokenizer"],
        "The model folder .*no_tokenizer has no tokenizer_config.json",
    ),
    "no chat template": (4, ["--model", "no_template"], "no chat template"),
    "no room for a prompt": (
        4,
        ["--sampling.max-new-tokens", "5000"],
        "no room is left for a prompt. Lower sampling",
    ),
    "no vllm": (
        4,
        ["--sampler", "vllm"],
        "vllm is not installed: pip install 'vllm>=0.32,<0.33'",
    ),
    "no vllm to serve with": (
        4,
        ["serve", "miniature.pmi"],
        "vllm is not installed: pip install 'vllm>=0.32,<0.33'",
    ),
    "no server": (
        75,
        ["--sampler.kind", "vllm-server", "--sampler.urls", "http://127.0.0.1:9"],
        "http://127.0.0.1:9 does not answer",
    ),
    "no address": (
        2,
        [*SERVERS, "localhost"],
        "sampler.urls needs the addresses of servers",
    ),
    "servers without an address": (
        2,
        ["--sampler", "vllm-server"],
        "The setting sampler.urls is missing",
    ),
    "alarm": (
        2,
        ["--alarm.stop", "0.01"],
        "alarm needs 0 < warn <= stop, got warn=0.05, stop=0.01",
    ),
    "memory fraction": (
        2,
        ["--sampler.kind", "vllm", "--sampler.memory-fraction", "2"],
        "memory_fraction must be between 0 and 1",
    ),
    "adapter on the head": (4, ["--adapter.targets", "lm_head"], "puts LoRA on the head"),
}


@pytest.fixture
def bad_things(tmp_path, tiny_model):
    good = {"id": "a", "problem": "q", "solution": "s"}
    files = {
        "empty": b"",
        "column": b'{"question": "q", "solution": "s"}\n',
        "null": b'{"problem": "q", "solution": null}\n',
        "number": b'{"problem": 5, "solution": "s"}\n',
        "broken": json.dumps(good).encode() + b'\n{"problem": \n',
        "latin": '{"problem": "é", "solution": "s"}'.encode("latin-1"),
        "twice": (json.dumps(good) + "\n").encode() * 2,
        "long": json.dumps(good | {"solution": "s" * 5000}).encode(),
        "question": json.dumps(good | {"problem": "q" * 5000}).encode(),
    }
    for name, content in files.items():
        (tmp_path / f"{name}.jsonl").write_bytes(content)
    shutil.copytree(tiny_model, tmp_path / "no_tokenizer")
    for file in (tmp_path / "no_tokenizer").glob("tokenizer*"):
        file.unlink()
    without_template(shutil.copytree(tiny_model, tmp_path / "no_template"))


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_is_one_paragraph_with_its_exit_code(
    command, settings, bad_things, tmp_path, name
):
    import re

    expected, words, message = BAD[name]
    words = words if words[0] in ("train", "resume", "serve") else ["train", settings, *words]
    code, _, errors = command(*words)
    assert code == expected, errors
    said = errors[errors.index("purified-opsd: ") :]
    assert re.search(message, said, re.DOTALL), said
    assert "Traceback" not in errors
    assert said.strip().count("\n\n") == 0
    assert not (tmp_path / "runs").exists()  # nothing half-written
    assert not (tmp_path / "nowhere").exists()


def test_a_reference_that_is_too_long_is_cut_and_counted(command, settings, bad_things, tmp_path):
    code, _, errors = command(
        "train", settings, "--data", "long.jsonl", "--batch-size", "1", "--steps", "1"
    )
    assert code == 0, errors
    assert RunReader(tmp_path / "runs" / "my_run").metrics()[0]["reference_cut_rate"] == 1.0


def test_a_tracker_that_fails_never_stops_training(
    command, settings, tmp_path, monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, "trackio", ModuleType("trackio"))  # which has no `init`
    code, *_ = command("train", settings, "--trackers", "tensorboard", "trackio")
    assert code == 0
    assert caplog.text.count("The tracker trackio is left out from here on: AttributeError") == 1
    assert list((tmp_path / "runs/my_run/trackers").rglob("events.out.tfevents*"))


def test_a_step_that_is_not_there(command, settings):
    command("train", settings)
    code, _, errors = command("export", "runs/my_run", "--step", "7", "--output", "x")
    assert code == 2
    assert "has no good checkpoint of step 7; it has 2" in errors


def test_every_command_is_a_function_in_a_file_of_its_name():
    files = {file.stem for file in Path(purified_opsd.cli.__file__).parent.glob("*.py")}
    shared = {"__init__", "__main__", "main", "launch", "parameters", "rank_zero", "loading"}
    assert set(COMMANDS) == files - shared
    for name in COMMANDS:
        assert callable(vars(import_module(f"purified_opsd.cli.{name}"))[name])


LIGHT = """
import sys
from purified_opsd.cli.main import main
try:
    main()
finally:
    assert "torch" not in sys.modules
"""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "Train a LoRA adapter."),
        ([], 0, "Train a LoRA adapter."),
        (["--version"], 0, __version__),
        (["trian"], 2, "There is no command 'trian'. Did you mean train?"),
        (["--hlep"], 2, "There is no command '--hlep'. Did you mean --help?"),
    ],
)
def test_what_needs_no_command_is_answered_without_torch(words, code, said):
    run = [sys.executable, "-c", LIGHT, *words]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "one"], "SECOND requires an argument"),
        (["compare", "one", "two", "--stpe", "1"], "Unknown option: --stpe. Did you mean --step?"),
        (["plan", "miniature.pmi", "--gpus", "many"], '"many" into int'),
    ],
)
def test_words_that_a_command_does_not_take_are_a_paragraph(command, words, said):
    code, _, errors = command(*words)
    assert code == 2
    assert said in errors
    assert errors.endswith(f" `purified-opsd {words[0]} --help` says what it takes.\n")
    assert errors.count("\n") == 1
