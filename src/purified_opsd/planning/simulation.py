"""Steps on many GPUs, simulated event by event.

Samplers' rows end one by one, and trainers wait for the last of them. A step is synchronous, as the
loop is: the adapter goes out, all completions are drawn, each trainer takes its share of them,
gradients are summed.  docs/scaling.md describes the model, what of it was checked against a run,
and what was not.
"""

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression

PARTS = ("adapter", "rollout", "training", "gradient", "checkpoint")


@dataclass(frozen=True)
class Cluster:
    """What takes part in a step.  A GPU may both sample and train: the two never happen at once."""

    samplers: int
    trainers: int
    rows: int
    """Most sequences that one sampler draws side by side."""
    gpus: int


@dataclass(frozen=True)
class Rates:
    """Seconds of the parts of a step."""

    prefill: float
    """One question, on one sampler."""
    decode: Callable[[int], float]
    """One token of each of so many rows, on one sampler."""
    train: Callable[[int], float]
    """Frozen passes, student and loss of a completion of so many tokens, on one trainer."""
    adapter: float
    """Until every sampler has the new adapter."""
    gradient: float
    """Summing the gradient over the trainers, and the optimizer's step."""
    checkpoint: float
    """A step's share of a checkpoint."""


@dataclass(frozen=True)
class SimulationResult:
    """Means over the simulated steps."""

    seconds: dict[str, float]
    """By part, in the order of `PARTS`."""
    waiting: float
    """Share of the rollout's sampler-seconds in which a sampler had no row left and waited for the
    others.
    """
    straggling: float
    """Share of the training's trainer-seconds in which a trainer waited for the others."""

    @property
    def step_seconds(self) -> float:
        return sum(self.seconds.values())


def simulate(cluster: Cluster, rates: Rates, lengths: Sequence[Sequence[int]]) -> SimulationResult:
    """Simulates one step for each entry of `lengths`.

    An entry holds the tokens of that step's completions in the order of the batch.
    """
    rollouts = [rollout(cluster, rates, step) for step in lengths]
    trainings = [training(cluster, rates, step) for step in lengths]
    seconds = {
        "adapter": rates.adapter,
        "rollout": _mean_end(rollouts),
        "training": _mean_end(trainings),
        "gradient": rates.gradient,
        "checkpoint": rates.checkpoint,
    }
    return SimulationResult(
        seconds=seconds,
        waiting=_mean_idle_share(rollouts, cluster.samplers),
        straggling=_mean_idle_share(trainings, cluster.trainers),
    )


def _mean_end(parts: Sequence[tuple[float, float]]) -> float:
    """Mean over the steps of when a part ended."""
    return fmean(end for end, _ in parts)


def _mean_idle_share(parts: Sequence[tuple[float, float]], workers: int) -> float:
    """Mean over the steps of the share of the workers' seconds in which nothing was done."""
    shares = []
    for end, busy in parts:
        share = _idle_share(end * workers, busy)
        shares.append(share)
    return fmean(shares)


def _idle_share(total: float, busy: float) -> float:
    """Share of the seconds in which nothing was done; 0 where there are no seconds."""
    if not total:
        return 0.0
    return 1 - busy / total


def rollout(cluster: Cluster, rates: Rates, lengths: Sequence[int]) -> tuple[float, float]:
    """When the last completion ends, and the seconds in which samplers were at work.

    Each sampler takes its share at the start, and whatever is still unclaimed as its rows end.
    """
    unclaimed = list(reversed(lengths))
    even_share = math.ceil(len(lengths) / cluster.samplers)
    share = min(cluster.rows, even_share)
    # By sampler: the tokens that each of its rows has still to draw.
    remaining: list[list[int]] = [[] for _ in range(cluster.samplers)]
    events = [(0.0, sampler) for sampler in range(cluster.samplers)]
    end = 0.0
    busy = 0.0
    while events:
        now, sampler = heapq.heappop(events)
        rows = remaining[sampler]
        free = share - len(rows)
        taken = min(free, len(unclaimed))
        rows += [unclaimed.pop() for _ in range(taken)]
        if not rows:
            continue
        # The sampler's next event is the end of its shortest row.
        tokens = min(rows)
        reading = taken * rates.prefill
        drawing = tokens * rates.decode(len(rows))
        seconds = reading + drawing
        remaining[sampler] = [left - tokens for left in rows if left > tokens]
        busy += seconds
        row_end = now + seconds
        end = max(end, row_end)
        heapq.heappush(events, (row_end, sampler))
    return end, busy


def training(cluster: Cluster, rates: Rates, lengths: Sequence[int]) -> tuple[float, float]:
    """When the last trainer is done, and the seconds in which trainers were at work.

    Completions are dealt to the trainers one after another.
    """
    trainers = cluster.trainers
    dealt = [lengths[trainer::trainers] for trainer in range(trainers)]
    seconds = [sum(map(rates.train, completions)) for completions in dealt]
    return max(seconds), sum(seconds)


def lognormal_lengths(
    median: int, spread: float, longest: int, batch: int, steps: int
) -> list[list[int]]:
    """Lengths of the completions of each step; the same at every call.

    Their logarithms are normal with deviation `spread`, cut off at `longest`.
    """
    draw = random.Random(0)

    def length() -> int:
        logarithm = draw.gauss(0, spread)
        drawn = round(median * math.exp(logarithm))
        at_least_one = max(1, drawn)
        return min(at_least_one, longest)

    lengths = []
    for _ in range(steps):
        step = [length() for _ in range(batch)]
        lengths.append(step)
    return lengths


def scaling_exponents(
    sizes: Sequence[int], results: Sequence[SimulationResult]
) -> dict[str, float]:
    """The slope of log seconds over log size, by part and for the whole step.

    −1: each doubling halves the seconds; 0: no gain.
    """
    series = {
        "rollout": [result.seconds["rollout"] for result in results],
        "training": [result.seconds["training"] for result in results],
        "step": [result.step_seconds for result in results],
    }
    log_sizes = [math.log(size) for size in sizes]
    exponents = {}
    for part, seconds in series.items():
        log_seconds = [math.log(value) for value in seconds]
        line = linear_regression(log_sizes, log_seconds)
        exponents[part] = line.slope
    return exponents
