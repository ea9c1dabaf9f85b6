"""The numbers of a step against a batch small enough to be worked out by hand."""

import json
import time
from dataclasses import replace

import pytest
import torch

from purified_opsd.sampling.sampler import Completion
from purified_opsd.storage.completions import FinishReason
from purified_opsd.storage.files import json_line
from purified_opsd.training.metrics import StepTimer, rollout_rows, step_metrics
from purified_opsd.training.rollouts import ScoredRollout, StepResult


def trajectory(
    place: int, log_probs: list[float], gap: float, finish_reason: FinishReason
) -> ScoredRollout:
    completion = Completion(list(range(len(log_probs))), log_probs, finish_reason)
    return ScoredRollout(
        index=place,
        id=f"p{place}",
        prompt_ids=[7, 8],
        cut=place == 1,
        seed=place,
        completion=completion,
        weight=1 / (2 * len(log_probs)),
        divergence=[0.1 * (place + 1)] * len(log_probs),
        log_probs=[x + gap for x in log_probs],
    )


STEP = StepResult(
    rollouts=[
        trajectory(0, [-1.0, -2.0, -3.0], 0.01, "stop"),
        trajectory(1, [-1.0], -0.5, "length"),
    ],
    grad_norm=0.25,
    learning_rate=1e-4,
    seconds={"rollout": 1.0, "student": 3.0},
    decompositions=[{"cos_ref": 0.5, "cos_it": 0.1}, {"cos_ref": 0.9, "cos_it": 0.3}],
)


def test_every_number_of_a_row():
    row = step_metrics(STEP, 9, ["Wait, maybe 4", "so 5"], ["so"], torch.device("cpu"))
    expected = {
        "step": 9,
        "loss": (0.1 + 0.2) / 2,  # Eq. 12: mean over sequences of means over tokens
        "divergence": (3 * 0.1 + 0.2) / 4,
        "completion_tokens": 4,
        "completion_length": 2.0,
        "eos_rate": 0.5,
        "truncation_rate": 0.5,
        "log_prob_mean": (-6.0 + 3 * 0.01 - 1.5) / 4,
        "top_token_share": (1 / 3 + 1) / 2,
        "different_completions": 2,
        "reference_cut_rate": 0.5,
        "epistemic_count": 2,
        "epistemic_per_1000_tokens": 500.0,
        "log_prob_gap_mean": (3 * 0.01 + 0.5) / 4,
        "log_prob_gap_above_0.1": 0.25,
        "tokens_per_second": 1.0,
        "grad_norm": 0.25,
        "learning_rate": 1e-4,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert row["peak_memory_gb"] > 0.01
    assert row["decomposition"] == pytest.approx({"cos_ref": 0.7, "cos_it": 0.2})
    words = row["marker_counts"]["word"]
    assert (words["total"], words["per_response"], words["per_1000_tokens"]) == (2, 1.0, 500.0)
    assert {name: count for name, count in words["by_marker"].items() if count} == {
        "wait": 1,
        "maybe": 1,
        "so": 1,
    }


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_recorded_as_null(number, tmp_path):
    """As where teacher and student are the same, and ‖Δ_total‖ is 0."""
    step = replace(STEP, decompositions=[{"cos_ref": 0.5, "norm_fraction_it": number}])
    row = step_metrics(step, 1, ["a", "b"], [], torch.device("cpu"))
    assert json.loads(json_line(row))["decomposition"] == {"cos_ref": 0.5, "norm_fraction_it": None}


def test_nothing_is_said_of_a_decomposition_that_was_not_asked_for():
    assert "decomposition" not in step_metrics(
        replace(STEP, decompositions=[]), 9, ["", ""], [], torch.device("cpu")
    )


def test_rollout_rows_hold_what_can_be_scored_again():
    first, second = rollout_rows(STEP, 9, ["a", "b"])
    assert (first.extras["prompt_ids"], first.completion_ids, first.text) == (
        [7, 8],
        [0, 1, 2],
        "a",
    )
    assert [row.finish_reason for row in (first, second)] == ["stop", "length"]
    assert second.extras["sampler_log_probs"] == [-1.0]
    assert second.extras["trainer_log_probs"] == [-1.5]


def test_seconds_add_up_by_part_also_when_a_part_fails():
    timer = StepTimer(torch.device("cpu"))
    for _ in range(2):
        with timer("rollout"):
            time.sleep(0.01)
    with pytest.raises(RuntimeError), timer("student"):
        raise RuntimeError
    assert timer.seconds["rollout"] >= 0.02
    assert 0 <= timer.seconds["student"] < timer.seconds["rollout"]
