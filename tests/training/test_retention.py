"""Which checkpoints a run keeps, which is its best, and what is said of those that are gone."""

import json
import shutil
from dataclasses import replace

import pytest
import yaml

from purified_opsd.errors import CheckpointError, RunError, SettingsError
from purified_opsd.settings.build import build, to_mapping
from purified_opsd.storage.run_dir import BestCheckpoint, CheckpointRecord, RunReader, RunWriter
from purified_opsd.training.checkpoint import checkpoint_folder, list_checkpoints, verify
from purified_opsd.training.checkpoint_models import chosen_steps
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.retention import best_checkpoint, update_checkpoints
from purified_opsd.training.run import resume_run, start_run

from ..runs import assert_same_run


def evaluated(step: int, **accuracies: float) -> dict:
    return {
        "step": step,
        "evaluation": {name: {"accuracy": value} for name, value in accuracies.items()},
    }


def test_the_best_is_the_earliest_of_highest_mean_accuracy():
    rows = [
        evaluated(0, aime=0.9, hmmt=0.9),  # the base is no checkpoint
        evaluated(10, aime=0.2, hmmt=0.4),
        evaluated(20, aime=0.5, hmmt=0.3),
        evaluated(30, aime=0.3, hmmt=0.5),
    ]
    assert best_checkpoint(rows) == BestCheckpoint(20, pytest.approx(0.4), of=3)
    assert best_checkpoint(rows[:1]) is best_checkpoint([]) is None


def test_evaluations_on_other_benchmarks_are_not_compared():
    rows = [evaluated(10, easy=0.9), evaluated(20, easy=0.8, hard=0.2), evaluated(30, hard=0.1)]
    assert best_checkpoint(rows) == BestCheckpoint(30, 0.1, of=1)


@pytest.fixture
def folder(tmp_path):
    """A run of fifty steps that was evaluated; its checkpoints are empty folders."""
    writer = RunWriter(tmp_path / "run")
    writer.begin("steps: 50\n", {})
    for step in (10, 20, 30, 40, 50):
        checkpoint_folder(writer.folder, step).mkdir(parents=True)
        writer.metrics(evaluated(step, aime=0.4 if step == 20 else 0.2))
    return writer.folder


@pytest.mark.parametrize(
    ("step", "keep", "kept"),
    [
        (50, None, [10, 20, 30, 40, 50]),
        (50, 1, [20, 50]),
        (50, 2, [20, 40, 50]),
        (50, 9, [10, 20, 30, 40, 50]),
        (30, 1, [20, 30, 40, 50]),  # those after step 30 are of a time that is taken again
        (10, 1, [10, 20, 30, 40, 50]),
    ],
)
def test_the_newest_and_the_best_are_kept(folder, step, keep, kept):
    update_checkpoints(RunWriter(folder), step, keep)
    assert list_checkpoints(folder) == kept
    record = RunReader(folder).checkpoints()
    assert set(record.deleted) == {10, 20, 30, 40, 50} - set(kept)
    assert record.best == BestCheckpoint(min(step, 20), 0.4 if step > 10 else 0.2, of=step // 10)
    assert not list((folder / "checkpoints").glob(".*"))  # nothing half-deleted


def test_one_that_is_there_again_is_not_called_deleted(folder):
    update_checkpoints(RunWriter(folder), 50, 1)
    assert RunReader(folder).checkpoints().deleted == (10, 30, 40)
    checkpoint_folder(folder, 30).mkdir()  # taken again, after going back to step 20
    update_checkpoints(RunWriter(folder), 30, 1)
    assert RunReader(folder).checkpoints().deleted == (10,)


def test_without_evaluations_and_deletions_there_is_no_record(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.begin("steps: 2\n", {})
    update_checkpoints(writer, 2, None)
    assert not (writer.folder / "checkpoints.json").exists()
    assert RunReader(writer.folder).checkpoints() == CheckpointRecord()


def test_a_damaged_record_is_said(folder):
    (folder / "checkpoints.json").write_text(json.dumps({"best": {"x": 1}, "deleted": []}))
    with pytest.raises(RunError, match=r"checkpoints.json is damaged .*Delete it"):
        RunReader(folder).checkpoints()


@pytest.mark.parametrize("keep", [0, -1])
def test_to_keep_none_is_refused(tiny_run, keep):
    with pytest.raises(SettingsError, match=f"keep_checkpoints must be at least 1, got {keep}"):
        build(TrainingConfig, to_mapping(tiny_run) | {"keep_checkpoints": keep})


def test_a_run_keeps_the_newest_and_is_the_run_that_keeps_all(tiny_run, tmp_path):
    run = replace(tiny_run, checkpoint_every=1, keep_checkpoints=2)
    start_run(run)
    assert list_checkpoints(run.output_dir) == [3, 4]
    assert verify(checkpoint_folder(run.output_dir, 4)).step == 4
    everything = replace(run, keep_checkpoints=None, output_dir=tmp_path / "all")
    start_run(everything)
    assert list_checkpoints(everything.output_dir) == [1, 2, 3, 4]
    shutil.rmtree(checkpoint_folder(run.output_dir, 4))
    resume_run(run, run.output_dir)
    assert_same_run(run.output_dir, everything.output_dir)
    assert list_checkpoints(run.output_dir) == [3, 4]


def test_what_was_deleted_is_said_where_it_is_asked_for(tiny_run, command):
    run = replace(tiny_run, steps=3, checkpoint_every=1, keep_checkpoints=1)
    start_run(run)
    folder = run.output_dir
    with pytest.raises(CheckpointError, match="it has 3, and 0 is the base. That of step 1 "):
        chosen_steps(folder, [1])
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7; it has 3, .* the base\.$"):
        chosen_steps(folder, [7])  # which it never had
    code, _, errors = command("export", folder, "--step", "2", "--output", "x")
    assert code == 2
    assert "it has 3. That of step 2 was deleted after newer ones were saved" in errors


def test_the_best_is_exported_and_shown(tiny_run, command, tmp_path):
    start_run(replace(tiny_run, checkpoint_every=1, steps=3))
    folder = tiny_run.output_dir
    code, _, errors = command("export", folder, "--best", "--output", "x")
    assert code == 2
    assert "has no best checkpoint: none was evaluated while it trained" in errors
    RunWriter(folder).checkpoints(CheckpointRecord(BestCheckpoint(2, 0.5, of=3), (1,)))
    code, _, errors = command("export", folder, "--best", "--step", "3", "--output", "x")
    assert code == 2
    assert "--best and --step 3 each name a checkpoint" in errors
    code, output, errors = command("export", folder, "--best", "--output", "x")
    assert code == 0, errors
    assert "Step 2 is the best of 3 evaluated checkpoints: 50.0% on the questions by" in output
    assert "with the adapter of step-000002" in output
    assert command("report", folder)[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "step 2, 50.0 % in the run&#39;s own evaluations; the highest of 3" in page
    assert "(deleted: 1)" in page


def test_a_run_that_is_evaluated_records_its_best(tiny_run, problems):
    settings = to_mapping(replace(tiny_run, keep_checkpoints=1))
    settings["evaluation"] |= {"every": 1, "benchmarks": [str(problems)], "limit": 2}
    settings["evaluation"]["sampling"] |= {"max_new_tokens": 4}
    run = build(TrainingConfig, settings)
    start_run(run)
    record = RunReader(run.output_dir).checkpoints()
    assert record.best is not None
    assert (record.best.step, record.best.of) == (1, 4)  # none solves anything
    assert list_checkpoints(run.output_dir) == [1, 4]
    assert record.deleted == (2, 3)
    assert yaml.safe_load((run.output_dir / "config.yaml").read_text())["keep_checkpoints"] == 1
