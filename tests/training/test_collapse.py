"""A run that has collapsed says so, and one that has not says nothing."""

import math
import re
from pathlib import Path

import pytest
import torch

from purified_opsd.objective.divergences import JSD, ForwardKL, ReverseKL
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.training.collapse import (
    SIGNS,
    CollapseLimits,
    CollapseWatch,
    say_at_the_end,
    seen_signs,
)

LIMITS = CollapseLimits(max_divergence=math.log(2), max_grad_norm=0.1, batch_size=8)
HEALTHY = {
    "step": 1,
    "loss": 0.04,
    "grad_norm": 0.06,
    "log_prob_mean": -0.4,
    "top_token_share": 0.2,
    "different_completions": 8,
    "completion_length": 100.0,
    "eos_rate": 0.9,
    "truncation_rate": 0.1,
}
SICK = {
    "loss_at_maximum": {"loss": 0.56},
    "loss_risen": {"loss": 0.41},
    "sure_of_everything": {"log_prob_mean": -0.039},
    "one_token": {"top_token_share": 0.91},
    "all_the_same": {"different_completions": 1},
    "nothing_written": {"completion_length": 1.0, "eos_rate": 1.0, "truncation_rate": 0.0},
    "never_ending": {"eos_rate": 0.0, "truncation_rate": 1.0},
    "clipped_to_a_direction": {"grad_norm": 101.0},
    "no_gradient": {"grad_norm": 0.0},
}
ALSO = {"loss_at_maximum": {"loss_risen"}}
ALMOST = {
    "loss, ten times but for a little": {"loss": 0.39},
    "sure": {"log_prob_mean": -0.041},
    "one token": {"top_token_share": 0.89},
    "one token, few of them": {"top_token_share": 1.0, "completion_length": 7.0},
    "two completions": {"different_completions": 2},
    "cut off": {"truncation_rate": 0.99},
    "clipped": {"grad_norm": 99.0},
    "little gradient": {"grad_norm": 1e-9},
}


def signs(*rows: dict, limits: CollapseLimits = LIMITS, before: int = 0) -> list[list[str]]:
    """The names of the signs at each step; the first `before` were taken before a resume."""
    numbered = [{**HEALTHY, **row, "step": step} for step, row in enumerate(rows, 1)]
    watch = CollapseWatch(limits, numbered[:before])
    return [list(watch.signs(row)) for row in numbered[before:]]


@pytest.mark.parametrize("name", list(SICK))
def test_a_sign_is_seen_in_its_second_step(name):
    seen = signs({}, SICK[name], SICK[name], SICK[name], {})
    assert [name in names for names in seen] == [False, False, True, True, False]
    assert {other for names in seen for other in names} <= {name, *ALSO.get(name, ())}
    assert signs({}, SICK[name], {}, SICK[name]) == [[], [], [], []]  # one odd batch is none


@pytest.mark.parametrize("name", list(ALMOST))
def test_what_is_almost_a_sign_is_none(name):
    assert signs({}, *[ALMOST[name]] * 3) == [[], [], [], []]


@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_resumed_run_sees_what_an_unbroken_one_sees(before):
    rows = [{}, SICK["never_ending"], SICK["never_ending"], SICK["never_ending"]]
    assert signs(*rows, before=before) == signs(*rows)[before:]


def test_completions_that_were_always_cut_off_are_the_settings_doing():
    cut = {"eos_rate": 0.0, "truncation_rate": 1.0}
    assert signs(cut, cut, cut) == [[], [], []]


def test_without_a_maximum_the_loss_has_a_limit_of_its_own():
    limits = CollapseLimits(math.inf, 0.1, 8)
    few, many = {"loss": 4.9}, {"loss": 5.1}
    assert signs(few, few, limits=limits)[-1] == []
    assert signs(many, many, limits=limits)[-1] == ["loss_at_maximum"]


def test_a_loss_that_was_always_high_or_is_still_low_has_not_risen():
    assert signs(*[{"loss": 0.5}] * 3) == [[], [], []]
    assert signs({"loss": 1e-4}, {"loss": 0.2}, {"loss": 0.2}) == [[], [], []]


def test_two_completions_may_be_alike():
    limits = CollapseLimits(math.log(2), 0.1, 2)
    alike = {"different_completions": 1}
    assert signs(alike, alike, limits=limits) == [[], []]


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_the_maximum_is_that_of_distributions_that_share_nothing(weight):
    ours, theirs = torch.tensor([[1e-38, 1.0]]).log(), torch.tensor([[1.0, 1e-38]]).log()
    divergence = JSD(weight=weight)
    assert divergence(ours, theirs).item() == pytest.approx(divergence.maximum, rel=1e-5)
    assert JSD().maximum == pytest.approx(math.log(2))
    assert ForwardKL().maximum == ReverseKL().maximum == math.inf


def test_each_kind_is_said_once_and_all_at_the_end(caplog):
    watch = CollapseWatch(LIMITS, [])
    rows = []
    for step in range(1, 6):
        row = {**HEALTHY, "step": step, "loss": 0.63 if step > 1 else 0.1}
        row["collapse"] = watch.signs(row)
        rows.append(row)
    (warning,) = caplog.messages
    assert warning.startswith(
        "A sign of collapse in step 3: the loss is 0.63 nats, of at most 0.693"
    )
    (seen,) = seen_signs(rows)
    assert (seen.name, seen.steps) == ("loss_at_maximum", [3, 4, 5])
    caplog.clear()
    say_at_the_end(rows)
    (warning,) = caplog.messages
    assert warning.startswith("This run shows signs of collapse, and its checkpoints may be")
    assert "a learning rate that is too high (3 steps, 3 to 5). docs/metrics.md" in warning


def test_a_run_that_collapses_says_so_in_its_record_and_on_its_page(
    command, settings, tmp_path, caplog
):
    words = ["--optimizer.learning-rate", "1e6", "--steps", "4"]
    code, _, errors = command("train", settings, *words)
    assert code == 0, errors  # it has done what it was asked to
    rows = RunReader(tmp_path / "runs" / "my_run").metrics()
    assert "collapse" not in rows[0]
    risen = next(sign for sign in seen_signs(rows) if sign.name == "loss_risen")
    assert risen.steps == [3, 4]
    assert "A sign of collapse in step 3: the loss is" in caplog.text
    assert "This run shows signs of collapse" in caplog.messages[-1]
    command("report", "runs/my_run")
    page = (tmp_path / "report.html").read_text()
    assert "A sign of collapse: the loss is" in page


def test_a_healthy_run_says_nothing(command, settings, tmp_path, caplog):
    code, _, errors = command("train", settings, "--steps", "4")
    assert code == 0, errors
    assert "collapse" not in caplog.text + errors
    assert not any("collapse" in row for row in RunReader(tmp_path / "runs" / "my_run").metrics())


def test_every_sign_is_explained():
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    table = page.read_text().partition("## Signs of collapse")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert explained == [sign.__name__ for sign in SIGNS]
