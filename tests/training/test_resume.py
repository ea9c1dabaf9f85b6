"""A run that was killed and resumed is the run that never stopped, bit for bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from purified_opsd.errors import CheckpointError, RunError
from purified_opsd.objective.targets import PMITarget
from purified_opsd.policy.model import LoRA
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.settings.build import build
from purified_opsd.storage.run_dir import RunReader, RunWriter
from purified_opsd.training.checkpoint import (
    checkpoint_folder,
    list_checkpoints,
    newest_valid,
    verify,
)
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.run import resume_run, start_run

from ..runs import assert_same_run, checkpoint_bytes, metrics, start_process


@pytest.fixture
def finished(tiny_run):
    start_run(tiny_run)
    return tiny_run


def test_going_on_from_a_checkpoint_repeats_the_rest_exactly(finished, tmp_path):
    again = shutil.copytree(finished.output_dir, tmp_path / "again")
    shutil.rmtree(checkpoint_folder(again, 4))
    resume_run(finished, again)
    assert_same_run(finished.output_dir, again)


def test_dropout_is_repeated_too(tiny_run, tmp_path):
    run = replace(tiny_run, adapter=replace(tiny_run.adapter, dropout=0.3))
    start_run(run)
    again = shutil.copytree(run.output_dir, tmp_path / "again")
    shutil.rmtree(checkpoint_folder(again, 4))
    resume_run(run, again)
    assert_same_run(run.output_dir, again)


def test_another_seed_is_another_run(finished, tmp_path):
    other = replace(finished, seed=1, output_dir=tmp_path / "other")
    start_run(other)
    assert metrics(other.output_dir) != metrics(finished.output_dir)


def test_feeding_the_config_back_repeats_the_run(finished, tmp_path):
    settings = yaml.safe_load(RunReader(finished.output_dir).config_file.read_text())
    run = build(TrainingConfig, settings | {"output_dir": str(tmp_path / "again")})
    start_run(run)
    assert_same_run(finished.output_dir, run.output_dir)


def wait_for_steps(folder: Path, steps: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() or len(RunReader(folder).metrics()) < steps:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the run has taken no steps within two minutes"
        time.sleep(0.005)


def test_killed_at_a_random_moment_and_resumed(tiny_run, tmp_path):
    whole = replace(tiny_run, steps=30, checkpoint_every=3)
    start_run(replace(whole, output_dir=tmp_path / "unbroken"))
    process = start_process(whole, steps=30)
    wait_for_steps(whole.output_dir, random.randint(1, 20), process)
    time.sleep(random.random() * 0.1)
    process.kill()
    process.communicate(timeout=60)
    assert len(RunReader(whole.output_dir).metrics()) < 30, "killed too late to show anything"
    resume_run(whole, whole.output_dir)
    assert_same_run(tmp_path / "unbroken", whole.output_dir)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_saves_and_names_the_way_on(tiny_run, sent, code):
    process = start_process(tiny_run, steps=100_000)
    wait_for_steps(tiny_run.output_dir, 1, process)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"purified-opsd resume {tiny_run.output_dir}" in errors
    assert "Traceback" not in errors
    steps = len(RunReader(tiny_run.output_dir).metrics())
    assert list_checkpoints(tiny_run.output_dir)[-1] == steps
    assert verify(checkpoint_folder(tiny_run.output_dir, steps)).step == steps


def test_a_damaged_checkpoint_is_passed_over(finished, capsys):
    folder = finished.output_dir
    whole = checkpoint_bytes(checkpoint_folder(folder, 4)), metrics(folder)
    file = checkpoint_folder(folder, 4) / "optimizer.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # one bit
    file.write_bytes(content)
    resume_run(finished, folder)
    assert "Passed over" in capsys.readouterr().out
    assert (checkpoint_bytes(checkpoint_folder(folder, 4)), metrics(folder)) == whole


@pytest.mark.parametrize("how", ["no manifest", "file gone", "state is no JSON", "cut short"])
def test_every_kind_of_damage_is_seen(finished, how):
    folder = checkpoint_folder(finished.output_dir, 4)
    if how == "no manifest":
        (folder / "manifest.json").unlink()
    elif how == "file gone":
        (folder / "adapter" / "adapter_model.safetensors").unlink()
    elif how == "state is no JSON":
        (folder / "state.json").write_text("{")
    else:
        os.truncate(folder / "optimizer.safetensors", 100)
    with pytest.raises(CheckpointError, match="damaged|no manifest.json"):
        verify(folder)
    good, damage = newest_valid(finished.output_dir)
    assert good.step == 2
    assert len(damage) == 1


def test_a_checkpoint_being_written_is_not_there_yet(finished):
    whole = checkpoint_folder(finished.output_dir, 4)
    whole.rename(whole.with_name(f".{whole.name}.tmp"))
    assert list_checkpoints(finished.output_dir) == [2]


def test_a_run_killed_before_its_first_checkpoint_starts_over(finished, tmp_path):
    again = shutil.copytree(finished.output_dir, tmp_path / "again")
    shutil.rmtree(again / "checkpoints")
    resume_run(finished, again)
    assert_same_run(finished.output_dir, again)


def test_more_steps_can_be_asked_for(finished, tmp_path):
    longer = replace(finished, steps=6, output_dir=tmp_path / "longer")
    start_run(longer)
    resume_run(replace(finished, steps=6), finished.output_dir)
    assert_same_run(longer.output_dir, finished.output_dir)


def test_a_finished_run_says_so(finished):
    with pytest.raises(RunError, match="has taken all its 4 steps. Go on with .* --steps N"):
        resume_run(finished, finished.output_dir)


@pytest.mark.parametrize("checkpoints", ["kept", "gone"])
def test_changed_data_is_refused_with_both_fingerprints(finished, problems, checkpoints):
    if checkpoints == "gone":
        shutil.rmtree(finished.output_dir / "checkpoints")
    before = RunReader(finished.output_dir).data()["fingerprint"]
    problems.write_text(problems.read_text().replace("What is", "What was"))
    with pytest.raises(
        CheckpointError,
        match=f"training set has changed since step .* with {before}, and now has [0-9a-f]+",
    ):
        resume_run(replace(finished, steps=6), finished.output_dir)


def test_a_changed_target_is_refused_with_both_values(finished):
    changed = replace(finished, steps=6, target=PMITarget(beta=2.0))
    with pytest.raises(
        CheckpointError,
        match=r"setting target has changed .*beta=1\.0.* now has .*beta=2\.0.*Bring back what it "
        "began",
    ):
        resume_run(changed, finished.output_dir)


def test_a_changed_model_is_refused(finished, tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(tiny_model, tmp_path / "other")
    tensors = {k: v * 1.5 for k, v in load_file(other / "model.safetensors").items()}
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    changed = replace(finished, steps=6, model=replace(finished.model, path=str(other)))
    with pytest.raises(CheckpointError, match="The model has changed since step 4"):
        resume_run(changed, finished.output_dir)


def test_refused_changes_leave_the_run_untouched(finished):
    before = {f: f.read_bytes() for f in sorted(finished.output_dir.rglob("*")) if f.is_file()}
    with pytest.raises(CheckpointError):
        resume_run(replace(finished, steps=6, target=PMITarget(beta=2.0)), finished.output_dir)
    assert {
        f: f.read_bytes() for f in sorted(finished.output_dir.rglob("*")) if f.is_file()
    } == before


def test_no_pickle_anywhere(finished):
    names = {f.suffix for f in finished.output_dir.rglob("*") if f.is_file()}
    assert names <= {".safetensors", ".json", ".jsonl", ".yaml", ".md", ""}  # "" is the lock


def test_the_adapter_opens_in_peft_as_it_is(finished):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(finished.model.path)
    opened = PeftModel.from_pretrained(base, checkpoint_folder(finished.output_dir, 4) / "adapter")
    row = RunReader(finished.output_dir).rollouts(4)[0]
    ids = torch.tensor([row.extras["prompt_ids"] + row.completion_ids])
    with torch.no_grad():
        logits = opened(input_ids=ids).logits[0, len(row.extras["prompt_ids"]) - 1 : -1]
    now = (
        logits.log_softmax(-1).gather(-1, ids[0, len(row.extras["prompt_ids"]) :, None]).squeeze(-1)
    )
    before = torch.tensor(row.extras["trainer_log_probs"])
    assert (now - before).abs().max() < 0.1  # one small step away from where it was sampled
    assert not torch.allclose(now, before, atol=1e-6)


def test_a_torn_last_line_is_left_out_and_taken_again(finished, tmp_path):
    again = shutil.copytree(finished.output_dir, tmp_path / "again")
    shutil.rmtree(checkpoint_folder(again, 4))
    file = again / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert [row["step"] for row in RunReader(again).metrics()] == [1, 2, 3]
    resume_run(finished, again)
    assert_same_run(finished.output_dir, again)


def test_two_processes_cannot_train_in_one_folder(finished):
    from purified_opsd.storage.files import locked

    with (
        locked(finished.output_dir),
        pytest.raises(RunError, match="Another process is writing into"),
    ):
        resume_run(replace(finished, steps=6), finished.output_dir)


def test_an_existing_run_or_folder_is_not_written_over(finished, tmp_path):
    with pytest.raises(
        RunError, match=r"already holds a run \(4 steps\). Continue it with `purified-opsd resume"
    ):
        start_run(finished)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(
        RunError, match="exists and is not a run directory; nothing in it was touched"
    ):
        RunWriter(tmp_path / "mine").begin("", {})


def test_every_step_is_recorded(finished):
    reader = RunReader(finished.output_dir)
    assert [row["step"] for row in reader.metrics()] == [1, 2, 3, 4]
    for row in reader.metrics():
        rows = reader.rollouts(row["step"])
        assert len(rows) == 3
        assert row["completion_tokens"] == sum(len(r.completion_ids) for r in rows)
        assert row["truncation_rate"] + row["eos_rate"] == 1
        assert set(row["seconds"]) == {"rollout", "frozen", "student", "optimizer"}
        gaps = [
            abs(a - b)
            for r in rows
            for a, b in zip(
                r.extras["sampler_log_probs"], r.extras["trainer_log_probs"], strict=True
            )
        ]
        assert row["log_prob_gap_mean"] == pytest.approx(sum(gaps) / len(gaps), abs=1e-6)
        assert row["log_prob_gap_mean"] < 1e-4
    environment = json.loads((finished.output_dir / "environment.json").read_text())
    assert environment[0]["packages"]["torch"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 5},
        {"batch_size": 2},
        {"loss_temperature": 2.0},
        {"adapter": LoRA(rank=4, alpha=16)},
        {"sampling": Sampling(temperature=0.5, top_p=1.0, top_k=0, max_new_tokens=12)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_setting_that_changes_what_the_student_is_after_is_refused(finished, change):
    with pytest.raises(CheckpointError, match=f"The setting {next(iter(change))}"):
        resume_run(replace(finished, steps=6, **change), finished.output_dir)


def test_what_only_concerns_the_machine_may_change(finished):
    resume_run(
        replace(finished, steps=5, micro_batch_tokens=300, chunk_rows=4), finished.output_dir
    )
    assert RunReader(finished.output_dir).metrics()[-1]["step"] == 5
