"""The plan: what fits, what grows with what, and what it says."""

from dataclasses import replace

import pytest

from purified_opsd.distributed.sharding import FSDP2
from purified_opsd.objective.targets import TeacherTarget
from purified_opsd.planning.estimate import GPUS, Assumptions, DoesNotFit, estimate, growth, report
from purified_opsd.planning.flops_memory import lengths_of
from purified_opsd.planning.model_dims import PUBLISHED
from purified_opsd.recipes import find_recipe

CONFIG = find_recipe("qwen3-8b.math-cot.pmi")
DIMS = PUBLISHED["Qwen/Qwen3-8B"]
LENGTHS = lengths_of(200, 4000, 1024)
GPU = GPUS["h100-80gb"]


def test_the_largest_micro_batch_fits_and_one_token_more_does_not():
    for gpu, room in ((GPUS["l40s-48gb"], 48e9), (GPU, 80e9)):
        plan = estimate(replace(CONFIG, batch_size=256), DIMS, LENGTHS, gpu, 1)
        a_token = 2 * DIMS.layers * DIMS.hidden
        assert plan.memory.peak <= 0.92 * room
        assert plan.memory.peak + 20 * a_token > 0.92 * room


def test_where_there_is_room_a_micro_batch_holds_all_frozen_passes_of_a_step():
    assert estimate(CONFIG, DIMS, LENGTHS, GPU, 8).micro_tokens == 4 * (5224 + 5024 + 1224)


def test_a_model_that_is_too_large_is_refused_with_its_parts():
    with pytest.raises(
        DoesNotFit,
        match=r"One sequence of 5224 tokens needs .* GB \(weights 16.4, .* of 24 GB are usable",
    ):
        estimate(CONFIG, DIMS, LENGTHS, GPUS["rtx4090-24gb"], 1)


def test_a_model_too_large_for_one_gpu_fits_eight_in_shards():
    small, long = GPUS["rtx4090-24gb"], lengths_of(200, 12_000, 1024)
    with pytest.raises(DoesNotFit, match=r"or shard the base over several \(--sharding fsdp2\)"):
        estimate(CONFIG, DIMS, long, small, 8)
    plan = estimate(replace(CONFIG, sharding=FSDP2()), DIMS, long, small, 8)
    layer = 2 * DIMS.body_parameters / DIMS.layers
    assert plan.memory.weights == pytest.approx(
        2 * (DIMS.parameters / 8 + layer + DIMS.head_parameters), rel=1e-6
    )
    alone = estimate(replace(CONFIG, sharding=FSDP2()), DIMS, LENGTHS, GPU, 1)
    assert alone.memory.weights == 2 * DIMS.parameters


def test_memory_does_not_grow_with_the_vocabulary_and_only_some_costs_with_the_reference():
    grown = growth(CONFIG, DIMS, LENGTHS, GPU, 8)
    pmi = estimate(CONFIG, DIMS, LENGTHS, GPU, 8)
    standard = estimate(replace(CONFIG, target=TeacherTarget()), DIMS, LENGTHS, GPU, 8)
    assert pmi.seconds["rollout"] == standard.seconds["rollout"]
    assert pmi.seconds["loss"] / standard.seconds["loss"] == pytest.approx(4 / 3)
    assert 1 < pmi.seconds["frozen"] / standard.seconds["frozen"] < 3
    assert 1 < grown["reference length"].seconds < 2
    assert 1.5 < grown["completion length"].seconds < 2.5
    assert 0.5 <= grown["number of GPUs"].seconds < 1


def test_slower_assumptions_make_a_longer_step():
    fast = estimate(CONFIG, DIMS, LENGTHS, GPU, 8)
    slow = estimate(CONFIG, DIMS, LENGTHS, GPU, 8, Assumptions(compute=0.2))
    assert slow.seconds["frozen"] == pytest.approx(2 * fast.seconds["frozen"])


def test_the_report_says_what_was_assumed():
    text = report(CONFIG, DIMS, LENGTHS, "h100-80gb", 8)
    assert text.startswith("Qwen/Qwen3-8B, pmi, on 8 x h100-80gb")
    assert "--micro-batch-tokens" in text
    assert "Assumed, not measured: products reach 40% of the peak" in text
