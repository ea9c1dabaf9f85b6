"""The sweep as a user meets it: run to the end, stopped and gone on with, and refused."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from purified_opsd.errors import SettingsError
from purified_opsd.recipes import find_recipe
from purified_opsd.settings.build import to_mapping
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.sweep import grid

SETTINGS = to_mapping(find_recipe("miniature.pmi"))


def test_the_grid_is_every_combination_and_its_folders_say_which(tmp_path):
    words = ["--target.clip", "5", "10", "--target.beta", "0.5", "2", "--steps", "7"]
    points = grid(SETTINGS, words, tmp_path)
    assert [(p.config.target.clip, p.config.target.beta, p.config.steps) for p in points] == [
        (5, 0.5, 7), (5, 2, 7), (10, 0.5, 7), (10, 2, 7),
    ]  # fmt: skip
    assert points[1].folder == tmp_path / "target.clip=5,target.beta=2"


def test_arms_and_data_can_be_swept_too(tmp_path):
    points = grid(
        SETTINGS, ["--target", "pmi", "teacher", "--data", "a/x.jsonl", "b/x.jsonl"], tmp_path
    )
    assert [point.config.arm for point in points] == [
        "pmi",
        "pmi",
        "standard",
        "standard",
    ]
    assert [point.config.data.path for point in points[:2]] == ["a/x.jsonl", "b/x.jsonl"]
    assert points[3].folder == tmp_path / "target=teacher,data=b_x.jsonl"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "3"], "There is nothing to vary"),
        (["--target.clip", "5", "5.0"], "target.clip=5.0 and target.clip=5 are one run"),
        (["--target.clip", "5", "-1"], "PMITarget needs finite beta > 0 and clip > 0"),
        (["--target.clipp", "5", "6"], "no setting target.clipp. Did you mean target.clip"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(tmp_path, words, said):
    with pytest.raises(SettingsError, match=said):
        grid(SETTINGS, words, tmp_path)


def sweep(settings, *words):
    command = [
        sys.executable,
        "-m",
        "purified_opsd.cli",
        "sweep",
        str(settings),
        "--target.clip",
        "5",
        "10",
        *words,
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )


def test_stopped_gone_on_with_and_compared(command, settings, tmp_path):
    """SIGTERM while the first run trains; the same command finishes both; once more, it has nothing
    to do; another is refused.
    """
    out, words = (
        tmp_path / "my sweep",
        ("--output-dir", str(tmp_path / "my sweep"), "--steps", "20"),
    )
    first, deadline = sweep(settings, *words), time.monotonic() + 120
    begun = out / "target.clip=5" / "metrics.jsonl"
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 143, said
    assert (
        f"Go on with: purified-opsd sweep {settings} --target.clip 5 10 --output-dir '{out}' "
        "--steps 20" in said
    )
    taken = len(RunReader(out / "target.clip=5").metrics())
    assert 0 < taken < 20
    assert not (out / "target.clip=10").exists()

    code, said, errors = command("sweep", settings, "--target.clip", "5", "10", *words)
    assert code == 0, errors
    assert f"going on after step {taken} of 20" in said
    for clip in (5, 10):
        run = RunReader(out / f"target.clip={clip}")
        assert len(run.metrics()) == 20
        assert yaml.safe_load(run.config_file.read_text())["target"]["clip"] == clip
    page = (out / "report.html").read_text()
    assert "target.clip=5, target.clip=10" in page
    assert (out / "report_files" / "training.csv").exists()
    code, _, errors = command(
        "report", *sorted(out.glob("*=*/")), "--output", out / "report.html"
    )  # as docs/report.md has it
    assert code == 0, errors

    code, said, _ = command("sweep", settings, "--target.clip", "5", "10", *words)
    assert code == 0
    assert said.count("done already") == 2
    assert "pmi on" not in said

    code, _, errors = command(
        "sweep", settings, "--target.clip", "5", "10", *words, "--batch-size", "3"
    )
    assert code == 2
    assert "target.clip=5 was begun with batch_size = 2, and 3 is asked for" in errors


def test_a_signal_during_a_runs_last_step_ends_the_sweep(settings, tmp_path, monkeypatch):
    """That run is finished, and the next one is not begun."""
    (tmp_path / "sub").mkdir()
    settings.rename(tmp_path / "sub/x.yml")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "runs/x-sweep"
    process, said = sweep("sub/x.yml", "--steps", "1", "--sampling.max-new-tokens", "300"), ""
    while "0/1" not in said and (letter := process.stdout.read(1)):
        said += letter
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 143, said + rest
    assert (out / "target.clip=5/checkpoints/step-000001/manifest.json").exists()
    assert not (out / "target.clip=10").exists()


def test_a_run_that_diverges_does_not_end_the_sweep(command, settings, tmp_path):
    code, said, errors = command(
        *(
            "sweep",
            settings,
            "--loss-temperature",
            "1e-40",
            "1",
            "--steps",
            "2",
            "--output-dir",
            tmp_path / "sweep",
        )
    )
    assert code == 1, errors
    assert "loss_temperature=1e-40 diverged, and the sweep goes on: " in errors
    assert "1 of 2 runs are done" in said
    assert len(RunReader(tmp_path / "sweep/loss_temperature=1").metrics()) == 2
