"""Estimates, intervals and tests of accuracies and of their differences.

P problems, R runs of each, C checkpoints, N draws of a simulation.  `correct_PR` holds 1 or 0 (or a
share between), nan where a sample is missing.  Problems are the unit: runs of one problem are no
independent evidence about others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import multimode

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom, sem, t

Array = NDArray[np.floating]

TIE = 1e-9
"""Sums of shares that are closer than this are equal, and differ by rounding."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference of two arms on the same problems, and how often chance alone would give one as
    large.
    """

    p_value: float

    @property
    def significant(self) -> bool:
        return self.p_value < 0.05


def problem_means(correct_PR: Array) -> Array:
    """The share of correct samples of each problem; nan where it has none."""
    given_PR = np.ma.masked_invalid(correct_PR)
    mean_P = given_PR.mean(axis=1)
    return mean_P.filled(np.nan)


Support = tuple[float, float]
"""The least and the greatest value that there can be."""

SHARE: Support = (0.0, 1.0)
DIFFERENCE: Support = (-1.0, 1.0)


def average(correct_PR: Array, support: Support | None = SHARE) -> Estimate | None:
    """avg@k with its error over problems and runs together; the interval as `average_of`.  None
    with fewer than two problems.

    The spread of the problems' means holds the noise of their runs already: resampling runs on top
    would count it twice.
    """
    mean_P = problem_means(correct_PR)
    sampled_P = mean_P[~np.isnan(mean_P)]
    return average_of([sampled_P], support)


def average_of(values: Sequence[Array], support: Support | None = None) -> Estimate | None:
    """The mean over groups of the means within, for groups that are independent; the interval by
    Student's t with Welch-Satterthwaite's degrees of freedom.  None where a group has fewer than
    two values.

    Where no value differs from the others of its group, the interval is what the values' `support`
    leaves open; None: nothing.
    """
    if not values or min(map(len, values)) < 2:
        return None
    B = len(values)
    means = [group.mean() for group in values]
    mean = float(np.mean(means))
    if all(np.ptp(group) < TIE for group in values):
        return _average_of_equal(values, mean, support)
    variances = np.array([group.var(ddof=1) / len(group) / B**2 for group in values])
    variance = variances.sum()
    error = math.sqrt(variance)
    group_freedoms = [len(group) - 1 for group in values]
    spread = (variances**2 / group_freedoms).sum()
    freedom = variance**2 / spread
    half = t_quantile(freedom) * error
    return Estimate(mean, error, mean - half, mean + half)


def _average_of_equal(values: Sequence[Array], mean: float, support: Support | None) -> Estimate:
    """`average_of` where no value differs from the others of its group."""
    if not support:
        return Estimate(mean, 0.0, mean, mean)
    intervals = [_left_open(group, support) for group in values]
    low, high = np.mean(intervals, axis=0)
    return Estimate(mean, 0.0, float(low), float(high))


def _left_open(equal: Array, support: Support) -> tuple[float, float]:
    """95 % interval of a mean where all P values seen are equal: Clopper and Pearson's, for none of
    P that differs.  Those that do may lie at either end of the support.
    """
    value = float(equal[0])
    unseen = 1 - 0.025 ** (1 / len(equal))
    least, greatest = support
    low = value + unseen * (least - value)
    high = value + unseen * (greatest - value)
    return low, high


def run_error(correct_PR: Array) -> float | None:
    """Standard error of avg@k on these very problems, from the noise of sampling alone: √(Σ_p s²_p
    / R_p) / P.

    None where no problem has two runs.
    """
    count_P = (~np.isnan(correct_PR)).sum(axis=1)
    several = correct_PR[count_P > 1]
    if not len(several):
        return None
    error_P = sem(several, axis=1, nan_policy="omit")
    error = np.linalg.norm(error_P) / len(several)
    return float(error)


def pass_at(correct_PR: Array, k: int) -> float | None:
    """pass@k, unbiased: mean over problems of 1 − C(n−c, k) / C(n, k), n samples of which c are
    correct.  Chen et al. 2021.

    None where a problem has fewer than k samples.
    """
    count_P = (~np.isnan(correct_PR)).sum(axis=1)
    if not len(count_P) or count_P.min() < k:
        return None
    correct_P = np.nansum(correct_PR, axis=1).round()
    all_wrong_P = hypergeom.pmf(0, count_P, correct_P, k)
    return float(np.mean(1 - all_wrong_P))


def majority(answers_P: Sequence[Sequence[tuple[str, bool]]]) -> float:
    """majority@k: the share of problems whose most frequent answer is correct; a tie counts by its
    share of correct ones.

    `answers_P`: of each problem the answers given and whether they are correct; all correct ones
    are one answer.
    """
    if not answers_P:
        return 0.0
    vote_P = [_vote(answers) for answers in answers_P]
    return float(np.mean(vote_P))


def compare(
    first_P: Sequence[Array], second_P: Sequence[Array], seed: int, flips: int = 10_000
) -> Difference | None:
    """First arm minus second: the mean over benchmarks of the mean over problems of the difference
    of their accuracies.

    `first_P`, `second_P`: a benchmark's problem means of each arm, in the same order; problems that
    one arm lacks are left out. The p-value is of the paired permutation test: under no effect a
    problem's difference may as well have the other sign. The interval is that of `average_of`.
    None with fewer than two problems on some benchmark.
    """
    difference_P = []
    for first, second in zip(first_P, second_P, strict=True):
        difference = first - second
        in_both = ~np.isnan(difference)
        difference_P.append(difference[in_both])
    estimate = average_of(difference_P, DIFFERENCE)
    if estimate is None:
        return None
    B = len(difference_P)
    weighted_P = np.concatenate([d / len(d) / B for d in difference_P])
    draw = np.random.default_rng(seed)
    p_value = _sign_flips(weighted_P, draw, flips)
    return Difference(
        value=estimate.value,
        standard_error=estimate.standard_error,
        low=estimate.low,
        high=estimate.high,
        p_value=p_value,
    )


@dataclass(frozen=True)
class BestOf:
    """Several checkpoints of one run on one benchmark."""

    last: float
    best: float
    """The highest of the accuracies: too high on average even where all checkpoints are alike."""
    cross_fitted: float
    """The accuracy, on problems that had no say in it, of the checkpoint that the other problems
    choose.
    """

    @property
    def bias(self) -> float:
        """The part of the best's accuracy that comes from the choice, by estimate."""
        return self.best - self.cross_fitted


def best_of(mean_CP: Array, seed: int, folds: int = 5, repeats: int = 20) -> BestOf:
    """Last, best, and best as chosen by cross-fitting over problems, averaged over `repeats` ways
    to cut them into folds.

    `mean_CP`: each checkpoint's problem means, oldest first.
    """
    C, P = mean_CP.shape
    draw = np.random.default_rng(seed)
    folds = min(folds, P)
    fold_P = np.arange(P) % folds
    in_order_NP = np.tile(fold_P, (repeats, 1))
    fold_NP = draw.permuted(in_order_NP, axis=1)
    fitted = 0.0
    for fold in range(folds):
        out_NP = fold_NP == fold
        choosing_NP = ~out_NP if P > 1 else out_NP
        choosing_NC = choosing_NP @ mean_CP.T
        # Of equals, the later one.
        newest_first_NC = choosing_NC[:, ::-1]
        chosen_N = C - 1 - newest_first_NC.argmax(axis=1)
        fitted_NP = mean_CP[chosen_N] * out_NP
        fitted += float(fitted_NP.sum()) / (repeats * P)
    mean_C = mean_CP.mean(axis=1)
    return BestOf(last=float(mean_C[-1]), best=float(mean_C.max()), cross_fitted=fitted)


def t_quantile(freedom: float) -> float:
    """The 97.5 % point of Student's t."""
    return float(t.ppf(0.975, freedom))


def _sign_flips(weighted_P: Array, draw: np.random.Generator, flips: int) -> float:
    """The share of sign patterns whose sum is at least as far from 0 as the observed one, which is
    counted in, so that the share is never 0.
    """
    rounding = TIE * np.abs(weighted_P).sum()
    observed = abs(weighted_P.sum()) - rounding
    nonzero = weighted_P[weighted_P != 0]
    count = len(nonzero)
    if count <= 13:
        # Every pattern: the bits of the numbers below 2^count.
        patterns = np.arange(2**count)[:, None]
        bits = (patterns >> np.arange(count)) & 1
        return float(_far(bits, nonzero, observed).mean())
    far = 0
    for first in range(0, flips, 1000):
        rows = min(1000, flips - first)
        bits = draw.integers(0, 2, size=(rows, count), dtype=np.int8)
        far += int(_far(bits, nonzero, observed).sum())
    return (far + 1) / (flips + 1)


def _far(bits: NDArray[np.integer], weighted: Array, observed: float) -> NDArray[np.bool_]:
    """Whether the sum is at least as far from 0 as observed, by pattern; a bit of 1 flips."""
    signs = 1 - 2 * bits
    sums = signs @ weighted
    return np.abs(sums) >= observed


def _vote(answers: Sequence[tuple[str, bool]]) -> float:
    """The share of correct answers among the most frequent ones."""
    votes = ["" if correct else f"wrong: {answer}" for answer, correct in answers]
    winners = multimode(votes)
    if not winners:
        return 0.0
    return ("" in winners) / len(winners)
