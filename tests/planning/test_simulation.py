"""The simulated step against what can be said in closed form, and against its own limits."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purified_opsd.planning.cluster import (
    Links,
    colocated,
    disaggregated,
    estimated_rates,
    with_exchange,
)
from purified_opsd.planning.estimate import GPUS, Assumptions, estimate
from purified_opsd.planning.flops_memory import lengths_of
from purified_opsd.planning.model_dims import PUBLISHED
from purified_opsd.planning.simulation import (
    Cluster,
    Rates,
    lognormal_lengths,
    rollout,
    scaling_exponents,
    simulate,
    training,
)
from purified_opsd.recipes import find_recipe

RATES = Rates(
    prefill=0.5,
    decode=lambda rows: 1.0 + 0.25 * rows,
    train=lambda length: 2.0 + length,
    adapter=3.0,
    gradient=5.0,
    checkpoint=7.0,
)


def test_one_batch_on_one_sampler_takes_a_decoding_step_a_token_of_the_longest_and_a_row_a_token():
    lengths = [3, 10, 4, 4]
    end, busy = rollout(Cluster(1, 1, 4, 1), RATES, lengths)
    assert end == busy == pytest.approx(4 * 0.5 + max(lengths) * 1.0 + 0.25 * sum(lengths))


def test_rows_that_end_make_room_for_those_that_wait():
    steady = replace(RATES, prefill=0.0, decode=lambda rows: 1.0)
    end, _ = rollout(
        Cluster(1, 1, 2, 1), steady, [2, 6, 3, 1]
    )  # row 1: 2, then 3, then 1; row 2: 6
    assert end == 6.0
    end, busy = rollout(Cluster(2, 1, 1, 2), steady, [2, 6, 3, 1])
    assert (end, busy) == (6.0, 12.0)


def test_a_step_by_hand():
    result = simulate(Cluster(2, 2, 8, 2), RATES, [[1, 9]])
    # each sampler has one row; the second goes on for 8 tokens while the first waits
    one, other = 0.5 + 1 * 1.25, 0.5 + 9 * 1.25
    assert result.seconds == pytest.approx(
        {"adapter": 3.0, "rollout": other, "training": 11.0, "gradient": 5.0, "checkpoint": 7.0}
    )
    assert result.waiting == pytest.approx(1 - (one + other) / (2 * other))
    assert result.straggling == pytest.approx(1 - (3 + 11) / 22)
    assert result.step_seconds == pytest.approx(3 + other + 11 + 5 + 7)


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=40), st.integers(1, 8), st.integers(1, 16)
)
def test_nothing_is_lost_and_nobody_works_longer_than_the_step(lengths, samplers, rows):
    steady = replace(
        RATES, prefill=0.0, decode=lambda rows: float(rows)
    )  # a second a token, whoever draws it
    end, busy = rollout(Cluster(samplers, 1, rows, samplers), steady, lengths)
    assert busy == pytest.approx(sum(lengths))
    assert max(lengths) <= end <= busy + 1e-9
    assert busy <= samplers * end + 1e-9
    trained, worked = training(Cluster(1, samplers, 1, samplers), RATES, lengths)
    assert worked == pytest.approx(sum(2.0 + length for length in lengths))
    assert worked / samplers - 1e-9 <= trained <= worked + 1e-9


def test_exponents_are_those_of_a_power_law():
    rates = [replace(RATES, decode=lambda rows, n=n: 1.0 / n, prefill=0.0) for n in (1, 2, 4)]
    results = [simulate(Cluster(1, 1, 1, 1), rate, [[100]]) for rate in rates]
    exponents = scaling_exponents([1, 2, 4], results)
    assert exponents["rollout"] == pytest.approx(-1)
    assert exponents["training"] == pytest.approx(0)
    assert -1 < exponents["step"] < 0


def test_lengths_have_their_median_and_are_cut_off():
    drawn = [length for step in lognormal_lengths(500, 0.5, 1000, 64, 50) for length in step]
    assert sorted(drawn)[len(drawn) // 2] == pytest.approx(500, rel=0.05)
    beyond = 0.5 * math.erfc(
        math.log(2) / 0.5 / math.sqrt(2)
    )  # of a normal at log 2 / 0.5 deviations
    assert drawn.count(1000) / len(drawn) == pytest.approx(beyond, abs=0.02)
    assert max(drawn) == 1000
    assert lognormal_lengths(500, 0.5, 1000, 64, 50) == lognormal_lengths(500, 0.5, 1000, 64, 50)


CONFIG, DIMS, GPU = (
    find_recipe("qwen3-8b.math-cot.pmi"),
    PUBLISHED["Qwen/Qwen3-8B"],
    GPUS["h100-80gb"],
)


@pytest.mark.parametrize("arrangement", [colocated, disaggregated])
def test_equal_lengths_on_one_node_take_what_the_plan_says(arrangement):
    lengths, cluster = lengths_of(200, 4000, 1024), arrangement(1, CONFIG)
    result = simulate(
        cluster, estimated_rates(CONFIG, DIMS, lengths, GPU, Assumptions()), [[1024] * 32]
    )
    planned = estimate(CONFIG, DIMS, lengths, GPU, cluster.trainers).seconds
    assert result.seconds["rollout"] == pytest.approx(planned["rollout"])
    assert result.seconds["training"] == pytest.approx(
        planned["frozen"] + planned["student"] + planned["loss"]
    )
    assert result.waiting == pytest.approx(0, abs=1e-9)


def test_links_take_what_bytes_and_messages_take():
    alone = estimated_rates(CONFIG, DIMS, lengths_of(200, 4000, 1024), GPU, Assumptions())
    links = Links(bytes_a_second=1e9, hop=1e-3, adapter_load=2.0, disk_bytes_a_second=1e8)
    rates = with_exchange(alone, CONFIG, DIMS, trainers=4, links=links)
    adapter = 4 * DIMS.adapter_parameters(CONFIG.adapter)
    assert rates.adapter == pytest.approx(adapter / 1e9 + 2)
    assert rates.gradient == pytest.approx(
        1.5 * adapter / 1e9 + 2 * 7 * 36 * 4 * 1e-3
    )  # two tensors for each of 7 maps in 36 layers
    assert rates.checkpoint == pytest.approx(3 * adapter / 1e8 / 50)
    assert with_exchange(alone, CONFIG, DIMS, trainers=1, links=links).gradient == 0


def test_plan_simulates_nodes(command):
    code, output, errors = command(
        "plan", "qwen3-8b.math-cot.pmi", "--gpus", "8", "--nodes", "1,2,4", "--median", "600"
    )
    assert code == 0, errors
    assert "Simulated, on nodes of 8 x h100-80gb: 20 steps of 32 completions" in output
    assert output.count("saturates first.") == 2
    assert "Assumed, not measured: the plan's shares, and Links(bytes_a_second=" in output
    code, _, errors = command("plan", "qwen3-8b.math-cot.pmi", "--nodes", "1,x")
    assert code == 2
    assert (
        "--nodes takes whole numbers above 0 with commas between them, such as 1,2,4,8; got 1,x."
        in errors
    )


def test_a_step_that_takes_no_time_leaves_nobody_waiting():
    nothing = Rates(
        prefill=0.0,
        decode=lambda rows: 0.0,
        train=lambda length: 0.0,
        adapter=0.0,
        gradient=0.0,
        checkpoint=0.0,
    )
    result = simulate(Cluster(2, 2, 8, 2), nothing, [[1, 9]])
    assert (result.waiting, result.straggling, result.step_seconds) == (0.0, 0.0, 0.0)
