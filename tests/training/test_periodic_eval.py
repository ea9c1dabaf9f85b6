"""Evaluation on the way: it is that of `evaluate`, it changes nothing about the student, and an
interruption costs nothing.
"""

import json
import shutil
import signal
import time
from dataclasses import replace

import pytest

from purified_opsd.errors import DataError, RunError, SettingsError
from purified_opsd.evaluation.benchmarks import load_benchmark
from purified_opsd.evaluation.config import EvaluationConfig, SamplingOverrides
from purified_opsd.evaluation.evaluate import evaluate
from purified_opsd.sampling.engines import HF
from purified_opsd.settings.build import build, to_mapping
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.training.checkpoint import checkpoint_folder, verify
from purified_opsd.training.checkpoint_models import load_run_models
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.run import resume_run, start_run

from ..runs import assert_same_run, start_process

SAMPLING = SamplingOverrides(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=10, batch_size=5)


@pytest.fixture
def watched_run(tiny_run, problems):
    """Evaluated before step 1, and after steps 3 and 4; checkpoints are asked for after steps 2 and
    4.
    """
    return replace(
        tiny_run,
        evaluation=EvaluationConfig(
            every=3, benchmarks=(str(problems),), runs=3, limit=4, sampling=SAMPLING
        ),
    )


def evaluation_files(folder):
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted((folder / "evaluation").rglob("*.*"))
        if f.is_file()
    }


def samples(folder, candidate):
    return folder / "evaluation" / "problems" / candidate / "samples.jsonl"


def test_what_is_written_is_what_the_command_would_have_written(watched_run):
    start_run(watched_run)
    folder = watched_run.output_dir
    assert [row["step"] for row in RunReader(folder).evaluations()] == [0, 3, 4]
    assert sorted(
        f.parent.name for f in samples(folder, "*").parents[1].glob("*/samples.jsonl")
    ) == [
        "base",
        "step-000003",
        "step-000004",
    ]
    before = evaluation_files(folder)
    shutil.rmtree(folder / "evaluation")
    asked = watched_run.evaluation
    plan = asked.request_for(watched_run.model.path)
    subject = load_run_models(watched_run, folder, [0, 3, 4], plan.sampling.max_new_tokens, HF())
    evaluate(
        subject.candidates,
        [load_benchmark(asked.benchmarks[0])],
        subject.prompts,
        plan,
        folder / "evaluation",
    )
    assert evaluation_files(folder) == before
    scores = {
        row["candidate"]: row for row in json.loads(before["evaluation/results.json"])["scores"]
    }
    for row, candidate in zip(
        RunReader(folder).evaluations(), ("base", "step-000003", "step-000004"), strict=True
    ):
        assert (
            row["evaluation"]["problems"]["completion_length"] == scores[candidate]["mean_tokens"]
        )
        assert row["evaluation"]["problems"]["no_box_rate"] == scores[candidate]["no_box_rate"] == 1


def test_the_student_is_the_one_that_was_never_evaluated(watched_run, tmp_path):
    watched_run = replace(watched_run, adapter=replace(watched_run.adapter, dropout=0.2))
    start_run(watched_run)
    alone = replace(watched_run, evaluation=EvaluationConfig(), output_dir=tmp_path / "alone")
    start_run(alone)
    assert_same_run(watched_run.output_dir, alone.output_dir)
    assert not checkpoint_folder(alone.output_dir, 3).exists()
    assert RunReader(alone.output_dir).evaluations() == []


@pytest.mark.parametrize(
    ("sent", "code", "during"), [(signal.SIGKILL, -9, "step-000004"), (signal.SIGTERM, 143, "base")]
)
def test_stopped_in_the_middle_of_one_and_resumed(watched_run, tmp_path, sent, code, during):
    watched_run = replace(watched_run, evaluation=replace(watched_run.evaluation, runs=30))
    whole = replace(watched_run, output_dir=tmp_path / "whole")
    start_run(whole)
    process = start_process(watched_run, watched_run.steps)
    file, deadline = samples(watched_run.output_dir, during), time.monotonic() + 120
    while not file.exists() or not file.stat().st_size:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no evaluation within two minutes"
        time.sleep(0.002)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert (f"purified-opsd resume {watched_run.output_dir}" in errors) == (sent == signal.SIGTERM)
    drawn = file.read_bytes()
    assert drawn.count(b"\n") < 120, "stopped too late to show anything"
    resume_run(watched_run, watched_run.output_dir)
    assert file.read_bytes()[: drawn.rindex(b"\n")] == drawn[: drawn.rindex(b"\n")]
    assert_same_run(watched_run.output_dir, whole.output_dir)
    assert (
        RunReader(watched_run.output_dir).evaluations() == RunReader(whole.output_dir).evaluations()
    )
    assert evaluation_files(watched_run.output_dir) == evaluation_files(whole.output_dir)


def test_a_step_taken_again_with_other_weights_is_evaluated_anew(watched_run):
    start_run(watched_run)
    folder = watched_run.output_dir
    settings = samples(folder, "step-000004").with_name("settings.json")
    right = evaluation_files(folder)
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"weights": "of before"}))
    samples(folder, "step-000004").write_text("")
    shutil.rmtree(checkpoint_folder(folder, 4))
    resume_run(watched_run, folder)
    assert evaluation_files(folder) == right


def test_samples_whose_settings_are_damaged_do_not_end_training(watched_run, caplog):
    start_run(watched_run)
    folder = watched_run.output_dir
    samples(folder, "step-000004").with_name("settings.json").write_text("{")
    shutil.rmtree(checkpoint_folder(folder, 4))
    resume_run(watched_run, folder)
    assert "The evaluation after step 4 is left out, and training goes on." in caplog.text
    assert "settings.json is damaged" in caplog.text
    assert verify(checkpoint_folder(folder, 4)).step == 4


def test_what_cannot_be_evaluated_is_said_and_training_goes_on(watched_run, caplog):
    hotter = replace(watched_run.evaluation, sampling=replace(SAMPLING, temperature=0.5))
    start_run(watched_run)
    longer = replace(watched_run, steps=5, evaluation=hotter)
    shutil.rmtree(checkpoint_folder(watched_run.output_dir, 4))
    metrics = watched_run.output_dir / "metrics.jsonl"
    metrics.write_text(
        "".join(
            line
            for line in metrics.read_text().splitlines(keepends=True)
            if '"evaluation"' not in line
        )
    )
    resume_run(longer, watched_run.output_dir)
    assert "The evaluation after step 3 is left out, and training goes on." in caplog.text
    assert "holds samples drawn with temperature = 1.0, and 0.5 is asked for" in caplog.text
    assert verify(checkpoint_folder(watched_run.output_dir, 5)).step == 5
    assert (
        RunReader(watched_run.output_dir).evaluations() == []
    )  # beside the base of other settings no step can stand


def test_two_benchmarks_of_one_name_are_refused_before_anything_is_written(watched_run):
    asked = watched_run.evaluation
    twice = replace(watched_run, evaluation=replace(asked, benchmarks=asked.benchmarks * 2))
    with pytest.raises(RunError, match="2 benchmarks are called problems"):
        start_run(twice)
    assert not watched_run.output_dir.exists()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"benchmarks": ["gone.jsonl"]}, DataError, "no benchmark 'gone.jsonl'"),
        (
            {"benchmarks": []},
            SettingsError,
            r"evaluation.every is 3, and evaluation.benchmarks names none",
        ),
        ({"every": -1}, SettingsError, "evaluation.every must be at least 0, got -1"),
        ({"runs": 0}, SettingsError, "runs must be at least 1, got 0"),
        ({"sampling": {"preset": "paper"}}, SettingsError, "There is no sampling 'paper'"),
        (
            {"sampling": {"temperature": 0}},
            SettingsError,
            "3 runs at temperature 0 would be one run",
        ),
        (
            {"sampling": {"max_new_tokens": 1020}},
            DataError,
            r"problems.jsonl:1: its question takes \d+ tokens, and 4 are left",
        ),
    ],
)
def test_a_mistake_is_found_before_anything_is_written(watched_run, change, error, said):
    settings = to_mapping(watched_run)
    settings["evaluation"] |= change
    with pytest.raises(error, match=said):
        start_run(build(TrainingConfig, settings))
    assert not watched_run.output_dir.exists()
