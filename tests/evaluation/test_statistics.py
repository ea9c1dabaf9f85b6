"""Statistics against closed forms, tables and simulations with a known truth."""

import math
from itertools import combinations

import numpy as np
import pytest

from purified_opsd.evaluation.statistics import (
    average,
    best_of,
    compare,
    majority,
    pass_at,
    problem_means,
    run_error,
    t_quantile,
)


def tables(n, P, R, seed, effect=0.0, beta=(1.3, 0.7)):
    """n tables of problems as unlike as AIME's: accuracies from Beta(1.3, 0.7) (mean 0.65), moved
    by `effect` in log-odds.
    """
    draw = np.random.default_rng(seed)
    p = draw.beta(*beta, size=(n, P, 1)).clip(1e-9, 1 - 1e-9)
    moved = 1 / (1 + (1 - p) / p * np.exp(-effect))
    return (draw.random((n, P, R)) < p).astype(float), (draw.random((n, P, R)) < moved).astype(
        float
    )


@pytest.mark.parametrize(
    ("freedom", "table"),
    [
        (1, 12.7062047),
        (1.05, 11.3619077),
        (1.5, 6.0166631),
        (2, 4.3026527),
        (2 - 1e-12, 4.3026527),
        (2.5, 3.5746548),
        (3, 3.1824463),
        (9, 2.2621572),
        (29, 2.0452296),
        (89, 1.9869787),
        (1e9, 1.9599640),
    ],
)
def test_quantiles_of_students_t(freedom, table):
    assert t_quantile(freedom) == pytest.approx(table, rel=1e-7)


def test_pass_at_k_is_the_mean_over_all_choices():
    correct = np.array([[1, 0, 0, 1, 0], [0, 0, 0, 0, 1.0]])
    for k in (1, 2, 3, 5):
        every = [
            [row[list(chosen)].max() for chosen in combinations(range(5), k)] for row in correct
        ]
        assert pass_at(correct, k) == pytest.approx(np.mean(every))
    assert pass_at(correct, 6) is None
    assert pass_at(np.array([[1, np.nan], [0, 1.0]]), 2) is None


def test_majority():
    wrong = ("12", False)
    right, too = ("1/2", True), ("0.5", True)
    assert majority([[right, too, wrong]]) == 1  # two ways to write one answer
    assert majority([[right, wrong]]) == 0.5
    assert majority([[right, wrong, ("13", False)]]) == pytest.approx(1 / 3)
    assert majority([[wrong, wrong, right], [right]]) == 0.5
    assert majority([[]]) == 0


def test_missing_samples_count_for_nothing():
    correct = np.array([[1, np.nan, 0], [1, 1, np.nan], [np.nan] * 3])
    assert problem_means(correct).tolist()[:2] == [0.5, 1.0]
    assert math.isnan(problem_means(correct)[2])
    assert average(correct).value == 0.75
    assert average(correct[:1]) is None
    assert run_error(correct[:, :1]) is None


def bootstrap_errors(correct_PR, draws: int, seed: int) -> tuple[float, float]:
    """Standard errors of avg@k by the bootstrap: over problems (each taken with its runs), and over
    runs (problems held).

    Of whole tables only.  The second is scaled by √(R/(R−1)), as a resampled variance is short by
    that factor.
    """
    P, R = correct_PR.shape
    draw = np.random.default_rng(seed)
    over_problems_N = correct_PR.mean(axis=1)[draw.integers(P, size=(draws, P))].mean(axis=1)
    runs_NPR = draw.integers(R, size=(draws, P, R))
    over_runs_N = np.take_along_axis(correct_PR[None], runs_NPR, axis=2).mean(axis=(1, 2))
    return float(over_problems_N.std(ddof=1)), float(
        over_runs_N.std(ddof=1) * math.sqrt(R / (R - 1))
    ) if R > 1 else math.nan


def test_errors_by_bootstrap_agree_with_the_closed_forms():
    table = tables(1, 40, 12, seed=1)[0][0]
    over_problems, over_runs = bootstrap_errors(table, draws=4000, seed=0)
    assert over_problems == pytest.approx(average(table).standard_error, rel=0.06)
    assert over_runs == pytest.approx(run_error(table), rel=0.06)


def test_the_run_error_is_the_spread_of_repeated_evaluations():
    draw = np.random.default_rng(0)
    p = draw.beta(1.3, 0.7, size=(30, 1))
    repeated = (draw.random((3000, 30, 12)) < p).astype(float)
    errors = np.sqrt(np.mean([run_error(table) ** 2 for table in repeated[:500]]))
    assert errors == pytest.approx(repeated.mean(axis=(1, 2)).std(), rel=0.05)


@pytest.mark.parametrize("R", [1, 12])
def test_the_interval_of_an_accuracy_covers_the_truth(R):
    estimates = [average(table) for table in tables(3000, 30, R, seed=2)[0]]
    covered = np.mean([estimate.low <= 0.65 <= estimate.high for estimate in estimates])
    assert 0.93 <= covered <= 0.97


def test_the_interval_of_an_accuracy_near_0_is_too_narrow_as_the_docs_say():
    estimates = [average(table) for table in tables(3000, 30, 12, seed=2, beta=(0.1, 2.0))[0]]
    covered = np.mean([estimate.low <= 0.1 / 2.1 <= estimate.high for estimate in estimates])
    assert 0.84 <= covered <= 0.89


def test_problems_that_all_come_out_alike_are_no_certainty():
    for value in (0.0, 1.0):
        estimate = average(np.full((30, 12), value))
        bounds = (
            (0.0, 0.1157) if value == 0 else (0.8843, 1.0)
        )  # Clopper and Pearson's, of 0 and of 30 in 30
        assert (estimate.low, estimate.high) == pytest.approx(bounds, abs=1e-4)
        assert (estimate.value, estimate.standard_error) == (value, 0)
    third = average(np.tile([1.0, 0, 0], (4, 1)))
    assert third.low < 0.2 < 0.7 < third.high
    assert average(np.zeros((30, 12)), support=None).high == 0  # numbers that have no limits
    most = compare([np.ones(2)], [np.zeros(2)], seed=0)
    assert (most.value, most.high, most.p_value) == (1, 1, 0.5)
    assert most.low == pytest.approx(1 - 2 * (1 - math.sqrt(0.025)))


def mean_over_the_population(effect):
    p = np.random.default_rng(9).beta(1.3, 0.7, size=1_000_000).clip(1e-9, 1 - 1e-9)
    return float((1 / (1 + (1 - p) / p * np.exp(-effect)) - p).mean())


@pytest.mark.parametrize("effect", [0.0, 0.5])
def test_the_interval_of_a_difference_covers_the_truth_and_the_test_keeps_its_level(effect):
    first, second = tables(1500, 30, 12, seed=3, effect=effect)
    estimates = [
        compare([b.mean(1)], [a.mean(1)], seed=0, flips=999)
        for a, b in zip(first, second, strict=True)
    ]
    truth = mean_over_the_population(effect) if effect else 0.0
    assert 0.93 <= np.mean([d.low <= truth <= d.high for d in estimates]) <= 0.97
    called = np.mean([d.significant for d in estimates])
    assert called <= 0.06 if effect == 0 else called > 0.5
    if effect == 0:  # interval and test, made in two ways, call the same differences
        assert np.mean([d.significant == (d.low > 0 or d.high < 0) for d in estimates]) > 0.97


def test_the_mean_of_three_benchmarks_is_tested_alike():
    pairs = [tables(1000, P, 4, seed=5 + P) for P in (30, 20, 10)]
    estimates = [
        compare(
            [b[i].mean(1) for _, b in pairs], [a[i].mean(1) for a, _ in pairs], seed=0, flips=999
        )
        for i in range(1000)
    ]
    assert 0.93 <= np.mean([d.low <= 0 <= d.high for d in estimates]) <= 0.97
    assert np.mean([d.significant for d in estimates]) <= 0.06


def test_few_problems_are_counted_out():
    difference = compare([np.array([1.0, 1, 1, 1, 1])], [np.zeros(5)], seed=0)
    assert difference.p_value == 2 / 32  # all pluses, all minuses
    assert difference.value == 1
    nothing = compare([np.ones(5)], [np.ones(5)], seed=0)
    assert (nothing.p_value, nothing.value, nothing.low) == (1, 0, -nothing.high)
    balanced = np.array([-0.5, -1, -0.25, 0.25, 1, 0.5])
    assert (
        compare([balanced], [np.zeros(6)], seed=0).p_value == 1
    )  # whatever the order in which its 0 is summed
    assert compare([np.ones(1)], [np.ones(1)], seed=0) is None


def test_the_best_of_like_checkpoints_is_too_high_and_cross_fitting_mends_it():
    draw = np.random.default_rng(4)
    p = draw.beta(1.3, 0.7, size=(2000, 1, 30))
    mean_NCP = draw.binomial(12, np.broadcast_to(p, (2000, 4, 30))) / 12
    estimates = [best_of(mean_CP, seed=0, repeats=4) for mean_CP in mean_NCP]
    truth = p.mean(axis=(1, 2))
    assert np.mean([b.best for b in estimates] - truth) == pytest.approx(
        0.0185, abs=0.004
    )  # FACTS: 1.85 points of nothing
    assert abs(np.mean([b.cross_fitted for b in estimates] - truth)) < 0.0015
    assert np.mean([b.bias for b in estimates]) > 0.012


def test_cross_fitting_finds_a_checkpoint_that_is_truly_better():
    mean_CP = np.stack([np.full(30, 0.4), np.full(30, 0.8), np.full(30, 0.5)])
    assert best_of(mean_CP, seed=0) == best_of(mean_CP, seed=1)
    best = best_of(mean_CP, seed=0)
    assert (best.last, best.best, best.cross_fitted) == (
        pytest.approx(0.5),
        pytest.approx(0.8),
        pytest.approx(0.8),
    )
