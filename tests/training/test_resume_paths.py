"""A run that was resumed with relative paths can be resumed again from anywhere."""

import json
import os
import shutil

import yaml


def test_paths_given_on_resume_are_kept_as_absolute_ones(
    command, settings, problems, tiny_model, tmp_path, monkeypatch
):
    code, _, errors = command("train", settings, "--steps", "1")
    assert code == 0, errors
    run = tmp_path / "runs" / "my_run"
    shutil.copy(problems, tmp_path / "moved.jsonl")
    shutil.copy(problems, tmp_path / "bench.jsonl")
    model = os.path.relpath(tiny_model, tmp_path)
    code, _, errors = command(
        *("resume", run, "--steps", "2", "--data", "moved.jsonl", "--model.path", model),
        *("--evaluation.benchmarks", "bench.jsonl", "aime25=bench.jsonl", "countdown"),
    )
    assert code == 0, errors
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert stored["data"]["path"] == str(tmp_path / "moved.jsonl")
    assert os.path.isabs(stored["model"]["path"])
    assert stored["evaluation"]["benchmarks"] == [
        str(tmp_path / "bench.jsonl"),
        f"aime25={tmp_path}/bench.jsonl",
        "countdown",
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    code, _, errors = command("resume", run, "--steps", "3")
    assert code == 0, errors
    steps = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(step)["step"] for step in steps] == [1, 2, 3]
