"""The quickstart, small but whole: killed, gone on with, and measured; and what it says where it cannot."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from purified_opsd.quickstart import ArmFailed, Quickstart, run_quickstart
from purified_opsd.quickstart.arms import ARMS, Arm
from purified_opsd.reporting.outcomes import read_outcomes
from purified_opsd.reporting.records import RunError, RunReader

SMALL = ["--steps", "3", "--questions", "4", "--samples", "2"]


def quickstart(folder, *words):
    command = [sys.executable, "-m", "purified_opsd.cli", "quickstart", "--output-dir", str(folder), *(words or SMALL)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"COLUMNS": "200"}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A quickstart stopped while it trains, then gone on with to the end."""
    folder = tmp_path_factory.mktemp("quick") / "start"
    first = quickstart(folder)
    deadline = time.monotonic() + 120
    while not all((folder / arm / "config.yaml").exists() for arm in ARMS) and time.monotonic() < deadline:
        time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=180)
    assert first.returncode == 130, said
    assert f"Go on with: purified-opsd quickstart --output-dir {folder}" in said
    second = quickstart(folder)
    out, _ = second.communicate(timeout=300)
    assert second.returncode == 0, out
    return folder, out


def test_stopped_and_gone_on_with_it_measures_both_arms(finished):
    folder, out = finished
    assert "going on after step" in (folder / "pmi.log").read_text() + (folder / "standard.log").read_text()
    for arm in ARMS:
        assert [row["step"] for row in RunReader(folder / arm).metrics()] == [1, 2, 3]
        outcomes = read_outcomes(folder / arm, "countdown")
        assert [outcome.step for outcome in outcomes] == [0, 1, 2, 3]
        assert all(outcome.score["samples"] == 4 for outcome in outcomes)
        assert all({"cos_ref", "cos_it", "norm_fraction_ref"} <= outcome.diagnosis.keys() for outcome in outcomes)
    assert "100%" in out


def test_the_table_has_base_and_every_checkpoint_and_names_what_to_open(finished):
    folder, out = finished
    for name in ("base", "purified, step 3", "standard, step 1"):
        assert f"| {name} " in out
    assert f"Open {folder / 'report.html'}, or {folder / 'summary.png'} alone" in out
    assert (folder / "report.html").read_text().count('class="data"') == len(ARMS)
    assert {"summary.png", "summary.svg", "summary.csv", "summary.md"} <= {file.name for file in folder.iterdir()}
    assert "not measured" not in (folder / "summary.md").read_text()


def test_the_base_is_the_same_in_both_arms(finished):
    folder, _ = finished
    of_pmi, of_standard = (read_outcomes(folder / arm, "countdown")[0] for arm in ARMS)
    assert of_pmi.score == of_standard.score
    assert of_pmi.diagnosis == of_standard.diagnosis


def test_a_folder_begun_with_other_numbers_is_refused(finished):
    folder, _ = finished
    with pytest.raises(RunError, match=r"was begun with .*'steps': 3.* and .*'steps': 6.* is asked for"):
        run_quickstart(Quickstart(6, 4, 2), folder)


def test_an_arm_that_fails_is_quoted_with_its_exit_code(tmp_path):
    (tmp_path / "pmi").mkdir()
    (tmp_path / "pmi" / "notes.txt").write_text("somebody else's")
    with pytest.raises(ArmFailed, match=r"(?s)`purified-opsd train miniature.pmi.*exit code 2.*is not a run directory") as failure:
        run_quickstart(Quickstart(3, 4, 2), tmp_path)
    assert failure.value.exit_code == 2


def test_too_few_steps_are_refused(tmp_path):
    process = quickstart(tmp_path / "start", "--steps", "2")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "'--steps': Input should be greater than or equal to 3" in said


def test_work_done_is_what_is_on_the_disk(tmp_path):
    arm = Arm("pmi", Quickstart(60, 300, 100), tmp_path / "pmi")
    assert arm.done == 0
    (tmp_path / "pmi").mkdir()
    (tmp_path / "pmi" / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in range(30)))
    assert 0.1 * arm.work < arm.done < 0.5 * arm.work
