"""`microscope` and `sample` as a user meets them, on a run of the tiny model."""

import json
import re
import shutil
from pathlib import Path
from string import ascii_lowercase

import pytest
import yaml

from purified_opsd.reporting.microscope import read_trajectories
from purified_opsd.sampling.engines import VLLM, VLLMServers
from purified_opsd.settings.build import build
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.run import start_run

from ..conftest import PROBLEMS


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """A run with checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    settings = {
        "model": {"path": str(tiny_model), "dtype": "float32"},
        "data": str(folder / "problems.jsonl"),
        "output_dir": str(folder / "run"),
        "adapter": {"rank": 4, "alpha": 8},
        "sampling": {"max_new_tokens": 8},
        "optimizer": {"learning_rate": 1e-2},
        "batch_size": 2,
        "steps": 2,
        "checkpoint_every": 1,
    }
    run = build(TrainingConfig, settings)
    start_run(run)
    return run.output_dir


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_a_microscope_of_base_and_checkpoints(command, run):
    code, output, errors = command(
        "microscope", run, "--samples", "2", "--step", "0", "--step", "2"
    )
    assert code == 0, errors
    assert re.search(f"Open {run / 'microscope.html'} \\([0-9.]+ MB\\)\\.", output)
    found = read_trajectories(run)
    assert [t.extras["candidate"] for t in found] == ["base", "base", "step-000002", "step-000002"]
    assert [t.id for t in found[:2]] == [t.id for t in found[2:]]  # the same questions
    for trajectory in found:
        assert all(token["numbers"]["jsd_teacher"] > 0 for token in trajectory.extras["tokens"])
    of_base = [
        abs(token["numbers"]["student_minus_base"])
        for t in found[:2]
        for token in t.extras["tokens"]
    ]
    of_student = [
        abs(token["numbers"]["student_minus_base"])
        for t in found[2:]
        for token in t.extras["tokens"]
    ]
    assert max(of_base) == 0 < max(of_student)
    page = (run / "microscope.html").read_text(encoding="utf-8")
    assert all(f'"id":"{t.id}"' in page for t in found)


def test_a_run_in_bfloat16_is_diagnosed_looked_at_sampled_and_exported(command, settings, tmp_path):
    code, _, errors = command(
        "train",
        settings,
        "--model.dtype",
        "bfloat16",
        "--steps",
        "1",
        "--output-dir",
        tmp_path / "half",
    )
    assert code == 0, errors
    for asked in (
        ("diagnose", "--samples", "2"),
        ("microscope", "--samples", "1"),
        ("sample",),
        ("export", "--output", "merged"),
    ):
        code, _, errors = command(asked[0], tmp_path / "half", *asked[1:])
        assert code == 0, (asked, errors)


@pytest.mark.parametrize(
    ("sampler", "engine"),
    [
        ({"kind": "vllm"}, VLLM),
        ({"kind": "vllm-server", "urls": ["http://127.0.0.1:9"]}, VLLMServers),
    ],
    ids=["vllm, not installed", "vllm-server, gone"],
)
def test_a_run_is_looked_at_in_process_whatever_sampled_it(
    command, run, sampler, engine, monkeypatch
):
    opened = []
    really_open = engine.open
    monkeypatch.setattr(engine, "open", lambda *words: opened.append(words) or really_open(*words))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "sampler": sampler}))
    for verb in ("microscope", "sample", "diagnose"):
        code, _, errors = command(verb, run, "--samples", "1")
        assert code == 0, (verb, errors)
    assert opened == []


def test_a_microscope_adds_what_is_not_there_and_keeps_the_rest(command, run):
    command("microscope", run, "--samples", "1", "--step", "2")
    file = run / "microscope" / "step-000002" / "000.json"
    before = file.stat().st_mtime_ns
    code, *_ = command("microscope", run, "--samples", "2")
    assert code == 0
    assert file.stat().st_mtime_ns == before
    assert len(read_trajectories(run)) == 6
    code, _, errors = command("microscope", run, "--samples", "2", "--seed", "1")
    assert code == 2
    assert "was made with seed = 0, and 1 is asked for" in errors
    assert "or delete " in errors


def test_markers_of_ones_own_are_found_in_completions_old_and_new(command, run):
    command("microscope", run, "--samples", "1", "--step", "2")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "markers": list(ascii_lowercase)}))
    assert command("microscope", run, "--samples", "2", "--step", "2")[0] == 0
    for trajectory in read_trajectories(run):
        text = "".join(token["text"] for token in trajectory.extras["tokens"]).lower()
        found = [marker for _, _, marker in trajectory.extras["markers"]]
        assert sorted(found) == sorted(letter for letter in text if letter in ascii_lowercase) != []


SAMPLE = [
    ("target", "Purified target, beta 1, clip 10:"),
    ("teacher", "Teacher:"),
    ("student", "Student, step 2:"),
    ("base", "Base:"),
]


@pytest.mark.parametrize(("source", "heading"), SAMPLE)
def test_a_sample_is_printed_and_kept(command, run, source, heading):
    words = (
        "sample",
        run,
        "--from",
        source,
        "--samples",
        "2",
        "--max-new-tokens",
        "5",
        "--temperature",
        "0",
    )
    for number in (1, 2):  # never over what was kept before
        code, output, errors = command(*words)
        assert code == 0, errors
        kept = re.search(r"Kept in (.*)\.\n", output)[1]
        assert f"{number:03d}-{source}" in kept
    assert heading in output
    assert output.count("Question\n") == output.count("Reference\n") == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", output)
    rows = [json.loads(line) for line in Path(kept).read_text(encoding="utf-8").splitlines()]
    assert [row["from"] for row in rows] == [source] * 2
    for row in rows:
        assert f"── {rows.index(row) + 1} · {row['id']} ──" in output
        assert row["sampling"]["temperature"] == 0
        assert len(row["completion_ids"]) == len(row["log_probs"]) <= 5


def test_sources_write_what_is_theirs(command, run):
    log_probs = {}
    for source, _ in SAMPLE:
        command("sample", run, "--from", source, "--samples", "1", "--temperature", "0")
        (file,) = (run / "samples").glob(f"*-{source}*.jsonl")
        log_probs[source] = json.loads(file.read_text(encoding="utf-8"))["log_probs"]
    first = [round(values[0], 3) for values in log_probs.values()]
    assert len(set(first)) == 4, log_probs
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(
        yaml.safe_dump({**config, "target": {"kind": "teacher"}})
    )  # has no purified one of its own
    _, output, _ = command("sample", run, "--samples", "1", "--temperature", "0")
    assert "Purified target, beta 1, clip 10: " in output
    kept = Path(re.search(r"Kept in (.*)\.\n", output)[1])
    assert json.loads(kept.read_text(encoding="utf-8"))["log_probs"] == log_probs["target"]


WRONG = {
    "a step without a checkpoint": (
        3,
        ("microscope", "--step", "7"),
        "has no checkpoint of step 7; it has 1, 2, and 0 is the base",
    ),
    "too many samples": (
        3,
        ("microscope", "--samples", "7"),
        "has 6 questions, and --samples asks for 7",
    ),
    "no samples": (3, ("sample", "--samples", "0"), "--samples asks for 0"),
    "a step of the target": (
        2,
        ("sample", "--step", "2"),
        "--step 2 is of the student, and target is the frozen base's",
    ),
    "a student that is the base": (
        3,
        ("sample", "--from", "student", "--step", "0"),
        "ask for that with --from base",
    ),
    "a student of no step": (
        3,
        ("sample", "--from", "student", "--step", "9"),
        "has no checkpoint of step 9",
    ),
    "an impossible temperature": (
        2,
        ("sample", "--temperature", "-1"),
        "sampling needs temperature >= 0",
    ),
    "no room": (4, ("sample", "--max-new-tokens", "5000"), "no room is left for a prompt"),
}


def test_what_cannot_be_is_one_paragraph_with_its_exit_code(command, run):
    for name, (wanted, (verb, *words), message) in WRONG.items():
        code, _, errors = command(verb, run, *words)
        assert code == wanted, (name, errors)
        assert message in errors, name
        assert "Traceback" not in errors
    assert not list(run.glob("samples/*.jsonl"))
    assert not list(run.glob("microscope/*/*.json"))
