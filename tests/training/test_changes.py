"""What a run that goes on may have otherwise than before: what does not change its student; and
what does only by name, for the record.
"""

import json
import re
import shutil
from dataclasses import replace

import pytest
import yaml

from purified_opsd.errors import CheckpointError, RunError
from purified_opsd.settings.build import build, flat, override, to_mapping
from purified_opsd.storage.run_dir import ChangeRow, RunReader
from purified_opsd.training.changes import changed_settings, permit_changes
from purified_opsd.training.checkpoint import checkpoint_folder, list_checkpoints
from purified_opsd.training.config import TrainingConfig, read_config
from purified_opsd.training.run import resume_run, start_run

from ..runs import assert_same_run


@pytest.fixture
def finished(tiny_run):
    """A run of two steps, with a checkpoint of each."""
    run = replace(tiny_run, steps=2, checkpoint_every=1)
    start_run(run)
    return run


def changed(run: TrainingConfig, *words: str) -> TrainingConfig:
    """The settings in the run's directory with words of a command line put over them."""
    start = to_mapping(read_config(run.output_dir))
    return build(TrainingConfig, override(TrainingConfig, start, words))


def files(folder):
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


REFUSED = {
    "optimizer.learning_rate": (["--optimizer.learning-rate", "0.5"], "0.001", "0.5"),
    "optimizer.max_grad_norm": (["--optimizer.max-grad-norm", "7"], "0.1", "7.0"),
    "optimizer.weight_decay": (["--optimizer.weight-decay", "0.25"], "0.0", "0.25"),
    "optimizer.beta2": (["--optimizer.beta2", "0.95"], "0.999", "0.95"),
    "schedule.kind": (["--schedule", "cosine"], "constant", "cosine"),
    "schedule.warmup_steps": (["--schedule.warmup-steps", "5"], "0", "5"),
    "averaging.kind": (["--averaging", "token-mean"], "sequence-mean", "token-mean"),
    "divergence.weight": (["--divergence.weight", "0.25"], "0.5", "0.25"),
    "divergence.kind": (["--divergence", "reverse-kl"], "jsd", "reverse-kl"),
    "target.kind": (["--target", "teacher"], "pmi", "teacher"),
    "target.clip": (["--target.clip", "3"], "10.0", "3.0"),
    "loss_temperature": (["--loss-temperature", "2"], "1.0", "2.0"),
    "sampling.temperature": (["--sampling.temperature", "0.5"], "1.0", "0.5"),
    "sampling.max_new_tokens": (["--sampling.max-new-tokens", "9"], "12", "9"),
    "prompts.max_tokens": (["--prompts.max-tokens", "500"], "600", "500"),
    "adapter.dropout": (["--adapter.dropout", "0.5"], "0.0", "0.5"),
    "model.dtype": (["--model.dtype", "bfloat16"], "float32", "bfloat16"),
    "batch_size": (["--batch-size", "2"], "3", "2"),
    "seed": (["--seed", "5"], "0", "5"),
}


def test_what_changes_the_student_is_refused_by_name_with_both_values(finished):
    before = files(finished.output_dir)
    for name, (words, old, new) in REFUSED.items():
        with pytest.raises(CheckpointError) as refused:
            resume_run(changed(finished, "--steps", "3", *words), finished.output_dir)
        said = str(refused.value)
        assert re.search(
            rf"settings? {name.partition('.')[0]}\b.* ha(s|ve) changed since step 2", said
        )
        assert f"{name}={old}" in said.partition("now has")[0]
        assert f"{name}={new}" in said.partition("now has")[2]
        assert "repeat the command with --allow-changes" in said
    assert files(finished.output_dir) == before


def test_what_may_change_at_any_time_is_this_and_no_more(tiny_run):
    """A new setting is refused until it is put here."""
    free = dict(flat(to_mapping(tiny_run))).keys() - tiny_run.identity().keys()
    sections = {name.partition(".")[0] for name in free}
    of_others = {"model", "prompts", "sampling", "steps"}
    assert sections - of_others == {
        "data",  # by its fingerprint
        "output_dir",
        "sampler",
        "alarm",
        "micro_batch_tokens",
        "sharding",
        "kernels",
        "chunk_rows",
        "checkpoint_every",
        "keep_checkpoints",
        "evaluation",
        "decompose_per_step",
        "markers",
        "trackers",
    }
    assert {name for name in free if name.partition(".")[0] in of_others} == {
        "model.path",  # by its fingerprint
        "model.revision",
        "model.attention",
        "model.trust_remote_code_of",
        "model.gradient_checkpointing",
        "prompts.template",  # by its hash
        "sampling.batch_size",
        "steps",
    }


def test_several_changes_are_named_together(finished):
    words = ["--optimizer.learning-rate", "0.5", "--schedule", "linear", "--seed", "1"]
    with pytest.raises(CheckpointError) as refused:
        resume_run(changed(finished, *words, "--steps", "3"), finished.output_dir)
    assert "The settings optimizer, schedule, seed and steps have changed" in str(refused.value)


def test_a_change_by_hand_in_the_settings_file_is_refused(finished):
    file = RunReader(finished.output_dir).config_file
    file.write_text(file.read_text().replace("learning_rate: 0.001", "learning_rate: 0.5"))
    with pytest.raises(CheckpointError, match="optimizer.learning_rate=0.5"):
        resume_run(changed(finished, "--steps", "3"), finished.output_dir)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_steps_change_the_student_where_the_schedule_ends_at_them(tiny_run, schedule):
    run = build(TrainingConfig, to_mapping(tiny_run) | {"schedule": schedule, "steps": 1})
    start_run(run)
    with pytest.raises(CheckpointError, match="steps=1.*steps=2.*decides every learning rate"):
        resume_run(replace(run, steps=2), run.output_dir)


def test_a_change_that_is_asked_for_is_recorded_with_its_step_and_shown(
    command, settings, tmp_path
):
    assert command("train", settings, "--steps", "1")[0] == 0
    words = ["resume", "runs/my_run", "--steps", "2", "--optimizer.learning-rate", "0.25"]
    code, _, errors = command(*words)
    assert code == 3
    assert "optimizer.learning_rate=5e-06, and now has optimizer.learning_rate=0.25" in errors
    code, output, errors = command(*words, "--allow-changes")
    assert code == 0, errors
    assert "Changed after step 1: optimizer.learning_rate: 5e-06 -> 0.25" in output
    run = tmp_path / "runs" / "my_run"
    assert json.loads((run / "changes.json").read_text()) == [
        {"step": 1, "changed": {"optimizer.learning_rate": ["5e-06", "0.25"]}}
    ]
    assert [row["learning_rate"] for row in RunReader(run).metrics()] == [5e-6, 0.25]
    assert command("resume", "runs/my_run", "--steps", "3")[0] == 0  # it is the run's own now
    assert RunReader(run).metrics()[-1]["learning_rate"] == 0.25
    assert len(RunReader(run).changes()) == 1
    assert command("report", "runs/my_run")[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "Changed on the way" in page
    assert "my_run, after step 1" in page
    assert "optimizer.learning_rate" in page.partition("Changed on the way")[2][:2000]


def test_going_back_forgets_what_came_later_or_has_it_come_in_there(finished, tmp_path):
    folder = finished.output_dir

    def go_on(*words: str) -> None:
        resume_run(changed(finished, *words), folder, permit_changes)

    go_on("--steps", "4", "--optimizer.learning-rate", "0.01")
    go_on("--steps", "6", "--optimizer.max-grad-norm", "9")
    rate, norm = ("0.001", "0.01"), ("0.1", "9.0")
    first = ChangeRow(2, {"optimizer.learning_rate": rate})
    assert RunReader(folder).changes() == [first, ChangeRow(4, {"optimizer.max_grad_norm": norm})]
    for step in (4, 5, 6):
        shutil.rmtree(checkpoint_folder(folder, step))
    again = shutil.copytree(folder, tmp_path / "again")
    # 1. As it was last told: what came in after step 4 comes in after step 3, and is not new.
    resume_run(changed(finished), folder)
    assert RunReader(folder).changes() == [first, ChangeRow(3, {"optimizer.max_grad_norm": norm})]
    # 2. With what step 3 was trained with: that change is forgotten.
    resume_run(changed(finished, "--optimizer.max-grad-norm", "0.1"), again)
    assert RunReader(again).changes() == [first]
    # 3. With a value that was never allowed: refused.
    for step in (4, 5, 6):
        shutil.rmtree(checkpoint_folder(again, step))
    with pytest.raises(CheckpointError, match="optimizer.max_grad_norm=5.0"):
        resume_run(changed(finished, "--optimizer.max-grad-norm", "5"), again)


def test_a_changed_run_that_is_killed_goes_on_bit_for_bit(finished, tmp_path):
    longer = changed(finished, "--steps", "4", "--averaging", "token-mean")
    resume_run(longer, finished.output_dir, permit_changes)
    again = shutil.copytree(finished.output_dir, tmp_path / "again")
    shutil.rmtree(checkpoint_folder(again, 4))
    shutil.rmtree(checkpoint_folder(again, 3))
    resume_run(longer, again)
    assert_same_run(finished.output_dir, again)
    assert RunReader(again).changes() == RunReader(finished.output_dir).changes()


def test_other_data_can_be_asked_for_and_is_recorded(finished, problems):
    problems.write_text(problems.read_text().replace("What is", "What was"))
    longer = changed(finished, "--steps", "3")
    with pytest.raises(CheckpointError, match="The training set has changed since step 2"):
        resume_run(longer, finished.output_dir)
    resume_run(longer, finished.output_dir, permit_changes)
    (change,) = RunReader(finished.output_dir).changes()
    before, after = change.changed["training set"]
    assert before == RunReader(finished.output_dir).data()["fingerprint"] != after


@pytest.mark.parametrize(
    "words",
    [["--adapter.rank", "8"], ["--adapter.alpha", "16"], ["--adapter.targets", "q_proj", "v_proj"]],
    ids=lambda words: words[0],
)
def test_what_no_checkpoint_would_fit_is_never_allowed(finished, words):
    before = files(finished.output_dir)
    with pytest.raises(CheckpointError, match=r"adapter\.\w+ can never change, not even with"):
        resume_run(changed(finished, "--steps", "3", *words), finished.output_dir, permit_changes)
    assert files(finished.output_dir) == before


def test_another_base_is_never_allowed(finished, tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(tiny_model, tmp_path / "other")
    tensors = {k: v * 1.5 for k, v in load_file(other / "model.safetensors").items()}
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    longer = changed(finished, "--steps", "3", "--model", str(other))
    with pytest.raises(CheckpointError, match="The model has changed.*model can never change"):
        resume_run(longer, finished.output_dir, permit_changes)


def test_fewer_steps_than_were_taken_are_told_from_all(finished):
    folder = finished.output_dir
    with pytest.raises(RunError, match="has taken all its 2 steps. Go on with .* --steps N"):
        resume_run(changed(finished), folder)
    with pytest.raises(RunError, match="has taken 2 of 2 steps, and --steps 1 is fewer: .*nothing"):
        resume_run(changed(finished, "--steps", "1"), folder)
    config = RunReader(folder).config_file
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"steps": 4}))
    for steps, fewer in (("1", "fewer"), ("2", "no more")):  # stopped halfway
        with pytest.raises(RunError, match=f"2 of 4 steps, and --steps {steps} is {fewer}"):
            resume_run(changed(finished, "--steps", steps), folder)
    assert list_checkpoints(folder) == [1, 2]


def test_another_directory_is_refused(command, finished):
    before = files(finished.output_dir)
    words = ["resume", finished.output_dir, "--steps", "3", "--output-dir", "elsewhere"]
    code, _, errors = command(*words)
    assert code == 2
    assert "--output-dir has no meaning here" in errors
    assert "copy the directory and resume the copy" in errors
    assert files(finished.output_dir) == before


def test_a_setting_that_is_newer_than_the_run_was_as_by_default():
    before = {"optimizer.learning_rate": "0.001"}
    after = before | {"prompts.system": "null", "sampling.top_k": "7"}
    changes = changed_settings(3, before, after)
    assert changes.after == {"sampling.top_k": "7"}
    assert changes.before == {"sampling.top_k": "20"}
