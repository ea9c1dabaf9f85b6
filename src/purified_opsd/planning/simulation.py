"""Steps on many GPUs, simulated event by event: samplers whose rows end one by one, trainers who
wait for the last of them.

A step is synchronous, as the loop is: the adapter goes out, all completions are drawn, each trainer
takes its share of them, gradients are summed.  docs/scaling.md tells the model, what of it was
checked against a run, and what was not.
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
    """Of one question, on one sampler."""
    decode: Callable[[int], float]
    """Of one token of each of so many rows, on one sampler."""
    train: Callable[[int], float]
    """Frozen passes, student and loss of a completion of so many tokens, on one trainer."""
    adapter: float
    """Until every sampler has the new adapter."""
    gradient: float
    """Summing the gradient over the trainers, and the optimizer's step."""
    checkpoint: float
    """Of a checkpoint, a step's share."""


@dataclass(frozen=True)
class Simulated:
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


def simulate(cluster: Cluster, rates: Rates, lengths: Sequence[Sequence[int]]) -> Simulated:
    """One step for each entry of `lengths`, the tokens of that step's completions in the order of
    the batch.
    """
    rollouts = [rollout(cluster, rates, step) for step in lengths]
    trainings = [training(cluster, rates, step) for step in lengths]
    means = {
        "rollout": fmean(end for end, _ in rollouts),
        "training": fmean(end for end, _ in trainings),
    }
    fixed = {"adapter": rates.adapter, "gradient": rates.gradient, "checkpoint": rates.checkpoint}
    return Simulated(
        seconds={part: (means | fixed)[part] for part in PARTS},
        waiting=fmean(_idle(end * cluster.samplers, busy) for end, busy in rollouts),
        straggling=fmean(_idle(end * cluster.trainers, busy) for end, busy in trainings),
    )


def _idle(whole: float, busy: float) -> float:
    """Share of the seconds in which nothing was done; of none at all, none."""
    return 1 - busy / whole if whole else 0.0


def rollout(cluster: Cluster, rates: Rates, lengths: Sequence[int]) -> tuple[float, float]:
    """When the last completion ends, and the seconds in which samplers were at work.

    Each sampler takes its share at the start, and whatever is still unclaimed as its rows end.
    """
    unclaimed = list(reversed(lengths))
    share = min(cluster.rows, math.ceil(len(lengths) / cluster.samplers))
    rows: list[list[int]] = [
        [] for _ in range(cluster.samplers)
    ]  # tokens that each row has still to draw
    events = [(0.0, sampler) for sampler in range(cluster.samplers)]
    end = busy = 0.0
    while events:
        now, sampler = heapq.heappop(events)
        taken = min(share - len(rows[sampler]), len(unclaimed))
        rows[sampler] += [unclaimed.pop() for _ in range(taken)]
        if not rows[sampler]:
            continue
        tokens = min(rows[sampler])
        seconds = taken * rates.prefill + tokens * rates.decode(len(rows[sampler]))
        rows[sampler] = [left - tokens for left in rows[sampler] if left > tokens]
        busy, end = busy + seconds, max(end, now + seconds)
        heapq.heappush(events, (now + seconds, sampler))
    return end, busy


def training(cluster: Cluster, rates: Rates, lengths: Sequence[int]) -> tuple[float, float]:
    """When the last trainer is done, and the seconds in which trainers were at work; places are
    dealt one after another.
    """
    shares = [
        sum(rates.train(length) for length in lengths[t :: cluster.trainers])
        for t in range(cluster.trainers)
    ]
    return max(shares), sum(shares)


def long_tailed(
    median: int, spread: float, longest: int, batch: int, steps: int
) -> list[list[int]]:
    """Lengths whose logarithms are normal with deviation `spread`, cut off at `longest`; the same
    at every call.
    """
    draw = random.Random(0)
    drawn = (
        (max(1, round(median * math.exp(draw.gauss(0, spread)))) for _ in range(batch))
        for _ in range(steps)
    )
    return [[min(length, longest) for length in step] for step in drawn]


def exponents(sizes: Sequence[int], results: Sequence[Simulated]) -> dict[str, float]:
    """By part and for the whole step: the slope of log seconds over log size.  −1: each doubling
    halves it; 0: no gain.
    """
    x = [math.log(size) for size in sizes]
    series = {
        part: [result.seconds[part] for result in results] for part in ("rollout", "training")
    }
    series["step"] = [result.step_seconds for result in results]
    return {
        part: linear_regression(x, [math.log(value) for value in values]).slope
        for part, values in series.items()
    }
