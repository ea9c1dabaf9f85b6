"""The quickstart, small but whole: killed, gone on with, and measured; and what it says where it
cannot.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from purified_opsd.errors import RunError
from purified_opsd.miniature.task import Split, problems
from purified_opsd.quickstart.arm import (
    ARMS,
    START_WORK,
    STEP_WORK,
    Arm,
    ArmFailed,
    Quickstart,
)
from purified_opsd.quickstart.runner import QuickstartStopped, run_quickstart
from purified_opsd.reporting.runs import read_outcomes
from purified_opsd.storage.run_dir import RunReader

from .conftest import children, quickstart, wait_until


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGKILL, -9)])
def test_no_arm_outlives_the_quickstart(tmp_path, number, code):
    first = quickstart(tmp_path, "--steps", "1000")
    try:
        wait_until(lambda: len(children(tmp_path)) == len(ARMS))
        first.send_signal(number)
        first.communicate(timeout=60)
        wait_until(lambda: children(tmp_path) == [], seconds=20)
    finally:
        for child in children(tmp_path):
            os.kill(child, signal.SIGKILL)
    assert first.returncode == code


@pytest.mark.parametrize(
    ("code", "said"),
    [(143, []), (7, ["`train` of pmi ended with exit code 7"]), (None, ["exit code -9"])],
)
def test_saved_is_said_of_what_ended_as_it_was_asked_to(tmp_path, code, said):
    arm = Arm("pmi", Quickstart(), tmp_path / "pmi")
    what = "signal.pause()" if code is None else f"sys.exit({code})"
    program = f"import signal, sys; signal.signal(15, signal.SIG_IGN); print(flush=True); {what}"
    arm.process, arm.command = (
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE),
        ["train"],
    )
    arm.process.stdout.readline()
    arm.ask_to_stop()
    wrong = arm.end(time.monotonic() + (0.1 if code is None else 20))
    assert [words for words in said if words not in wrong] == []
    assert bool(wrong) == bool(said)
    assert f"Stopped by SIGTERM; {'both arms are saved' if not said else wrong}" in str(
        QuickstartStopped(15, list(filter(None, [wrong])))
    )


def test_stopped_and_gone_on_with_it_measures_both_arms(finished):
    folder, out = finished
    assert (
        "going on after step"
        in (folder / "pmi.log").read_text() + (folder / "standard.log").read_text()
    )
    for arm in ARMS:
        assert [row["step"] for row in RunReader(folder / arm).metrics()] == [1, 2, 3]
        outcomes = read_outcomes(folder / arm, "countdown")
        assert [outcome.step for outcome in outcomes] == [0, 1, 2, 3]
        assert all(outcome.score["samples"] == 4 for outcome in outcomes)
        assert all(
            {"cos_ref", "cos_it", "norm_fraction_ref"} <= outcome.diagnosis.keys()
            for outcome in outcomes
        )
    assert "100%" in out


def test_the_table_has_base_and_every_checkpoint_and_names_what_to_open(finished):
    folder, out = finished
    for name in ("base", "pmi, step 3", "standard, step 1"):
        assert f"| {name} " in out
    assert f"Open {folder / 'report.html'}, or {folder / 'summary.png'} alone" in out
    assert (folder / "report.html").read_text().count('class="data"') == len(ARMS)
    assert {"summary.png", "summary.svg", "summary.csv", "summary.md"} <= {
        file.name for file in folder.iterdir()
    }
    assert "not measured" not in (folder / "summary.md").read_text()


def test_the_base_is_the_same_in_both_arms(finished):
    folder, _ = finished
    of_pmi, of_standard = (read_outcomes(folder / arm, "countdown")[0] for arm in ARMS)
    assert of_pmi.score == of_standard.score
    assert of_pmi.diagnosis == of_standard.diagnosis


def test_a_folder_begun_with_other_numbers_is_refused(finished, tmp_path):
    folder, _ = finished
    with pytest.raises(
        RunError, match=r"was begun with .*'steps': 3.* and .*'steps': 6.* is asked for"
    ):
        run_quickstart(Quickstart(6, 4, 2), folder)
    (tmp_path / "quickstart.json").write_text("{")
    with pytest.raises(RunError, match=r"quickstart.json is damaged: it is no JSON"):
        run_quickstart(Quickstart(), tmp_path)


def test_an_arm_that_fails_is_quoted_with_its_exit_code(tmp_path):
    (tmp_path / "pmi").mkdir()
    (tmp_path / "pmi" / "notes.txt").write_text("somebody else's")
    with pytest.raises(
        ArmFailed,
        match=r"(?s)`purified-opsd train miniature.pmi.*exit code 2.*is not a run directory",
    ) as failure:
        run_quickstart(Quickstart(3, 4, 2), tmp_path)
    assert failure.value.exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "2"], 'Invalid value "2" for --steps. Must be >= 3.'),
        (["--samples", "1956"], 'Invalid value "1956" for --samples. Must be <= 1955.'),
        (["--questions", "1925"], 'Invalid value "1925" for --questions. Must be <= 1924.'),
    ],
)
def test_numbers_out_of_reach_are_refused_before_anything_is_done(command, tmp_path, words, said):
    assert (len(problems(Split.DISTILLATION)), len(problems(Split.EVALUATION))) == (1955, 1924)
    code, _, errors = command("quickstart", "--output-dir", tmp_path / "start", *words)
    assert code == 2
    assert said in " ".join(errors.split())
    assert not (tmp_path / "start").exists()


def test_work_done_is_what_is_on_the_disk(tmp_path):
    arm = Arm("pmi", Quickstart(60, 300, 100), tmp_path / "pmi")
    assert arm.done == 0
    (tmp_path / "pmi").mkdir()
    (tmp_path / "pmi" / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": step}) + "\n" for step in range(30))
    )
    assert 0.1 * arm.work < arm.done < 0.5 * arm.work


def test_a_command_has_done_nothing_before_something_came_of_it(tmp_path):
    (tmp_path / "pmi").mkdir()
    arm = Arm("pmi", Quickstart(60, 300, 100), tmp_path / "pmi")
    assert arm.advance()
    assert arm.done == 0
    (tmp_path / "pmi" / "metrics.jsonl").write_text("{}\n")
    assert arm.done == STEP_WORK + START_WORK
    arm.ask_to_stop()
    assert arm.end(time.monotonic() + 60) == ""
