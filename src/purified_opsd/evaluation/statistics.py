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
    return np.ma.masked_invalid(correct_PR).mean(axis=1).filled(np.nan)


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
    return average_of([mean_P[~np.isnan(mean_P)]], support)


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
    mean = float(np.mean([group.mean() for group in values]))
    if all(np.ptp(group) < TIE for group in values):
        low, high = (
            np.mean([_left_open(group, support) for group in values], axis=0)
            if support
            else (mean, mean)
        )
        return Estimate(mean, 0.0, float(low), float(high))
    variances = np.array([group.var(ddof=1) / len(group) / B**2 for group in values])
    error = math.sqrt(variances.sum())
    spread = (variances**2 / [len(group) - 1 for group in values]).sum()
    half = t_quantile(variances.sum() ** 2 / spread) * error
    return Estimate(mean, error, mean - half, mean + half)


def _left_open(equal: Array, support: Support) -> tuple[float, float]:
    """95 % interval of a mean where all P values seen are equal: Clopper and Pearson's, for none of
    P that differs.  Those that do may lie at either end of the support.
    """
    value, unseen = float(equal[0]), 1 - 0.025 ** (1 / len(equal))
    return value + unseen * (support[0] - value), value + unseen * (support[1] - value)


def run_error(correct_PR: Array) -> float | None:
    """Standard error of avg@k on these very problems, from the noise of sampling alone: √(Σ_p s²_p
    / R_p) / P.

    None where no problem has two runs.
    """
    count_P = (~np.isnan(correct_PR)).sum(axis=1)
    several = correct_PR[count_P > 1]
    if not len(several):
        return None
    return float(np.linalg.norm(sem(several, axis=1, nan_policy="omit")) / len(several))


def pass_at(correct_PR: Array, k: int) -> float | None:
    """pass@k, unbiased: mean over problems of 1 − C(n−c, k) / C(n, k), n samples of which c are
    correct.  Chen et al. 2021.

    None where a problem has fewer than k samples.
    """
    count_P = (~np.isnan(correct_PR)).sum(axis=1)
    if not len(count_P) or count_P.min() < k:
        return None
    correct_P = np.nansum(correct_PR, axis=1).round()
    return float(np.mean(1 - hypergeom.pmf(0, count_P, correct_P, k)))


def majority(answers_P: Sequence[Sequence[tuple[str, bool]]]) -> float:
    """majority@k: the share of problems whose most frequent answer is correct; a tie counts by its
    share of correct ones.

    `answers_P`: of each problem the answers given and whether they are correct; all correct ones
    are one answer.
    """
    return float(np.mean([_vote(answers) for answers in answers_P])) if answers_P else 0.0


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
    difference_P = [(a - b)[~np.isnan(a - b)] for a, b in zip(first_P, second_P, strict=True)]
    estimate = average_of(difference_P, DIFFERENCE)
    if estimate is None:
        return None
    weighted_P = np.concatenate([d / len(d) / len(difference_P) for d in difference_P])
    p_value = _sign_flips(weighted_P, np.random.default_rng(seed), flips)
    return Difference(estimate.value, estimate.standard_error, estimate.low, estimate.high, p_value)


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
    fold_NP = draw.permuted(np.tile(np.arange(P) % min(folds, P), (repeats, 1)), axis=1)
    fitted = 0.0
    for fold in range(min(folds, P)):
        out_NP = fold_NP == fold
        choosing_NC = (~out_NP) @ mean_CP.T if P > 1 else out_NP @ mean_CP.T
        chosen_N = C - 1 - choosing_NC[:, ::-1].argmax(axis=1)  # of equals, the later one
        fitted += float((mean_CP[chosen_N] * out_NP).sum()) / (repeats * P)
    mean_C = mean_CP.mean(axis=1)
    return BestOf(float(mean_C[-1]), float(mean_C.max()), fitted)


def t_quantile(freedom: float) -> float:
    """The 97.5 % point of Student's t."""
    return float(t.ppf(0.975, freedom))


def _sign_flips(weighted_P: Array, draw: np.random.Generator, flips: int) -> float:
    """The share of sign patterns whose sum is at least as far from 0 as the observed one, which is
    counted in, so that the share is never 0.
    """
    observed = abs(weighted_P.sum()) - TIE * np.abs(weighted_P).sum()
    nonzero = weighted_P[weighted_P != 0]
    if len(nonzero) <= 13:
        signs = 1 - 2 * ((np.arange(2 ** len(nonzero))[:, None] >> np.arange(len(nonzero))) & 1)
        return float((np.abs(signs @ nonzero) >= observed).mean())
    far = 0
    for first in range(0, flips, 1000):
        signs = 1 - 2 * draw.integers(
            0, 2, size=(min(1000, flips - first), len(nonzero)), dtype=np.int8
        )
        far += int((np.abs(signs @ nonzero) >= observed).sum())
    return (far + 1) / (flips + 1)


def _vote(answers: Sequence[tuple[str, bool]]) -> float:
    winners = multimode("" if correct else f"wrong: {answer}" for answer, correct in answers)
    return ("" in winners) / len(winners) if winners else 0.0
