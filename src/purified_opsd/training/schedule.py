"""Learning-rate schedules: the factor on the learning rate for each step, counted from 0."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Schedule(Protocol):
    def __call__(self, step: int, steps: int) -> float: ...


def _check(warmup_steps: int) -> None:
    if warmup_steps < 0:
        raise ValueError(f"schedule.warmup_steps must be at least 0, got {warmup_steps}.")


def _warm_up(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def _progress(step: int, steps: int, warmup_steps: int) -> float:
    return min(1.0, max(0, step - warmup_steps) / max(1, steps - warmup_steps))


@dataclass(frozen=True)
class Constant:
    """The same rate throughout, after an optional warm-up."""

    warmup_steps: int = 0

    def __post_init__(self):
        _check(self.warmup_steps)

    def __call__(self, step: int, steps: int) -> float:
        return _warm_up(step, self.warmup_steps)


@dataclass(frozen=True)
class Linear:
    """Falls to zero along a line."""

    warmup_steps: int = 0

    def __post_init__(self):
        _check(self.warmup_steps)

    def __call__(self, step: int, steps: int) -> float:
        return _warm_up(step, self.warmup_steps) * (1 - _progress(step, steps, self.warmup_steps))


@dataclass(frozen=True)
class Cosine:
    """Falls to zero along half a cosine."""

    warmup_steps: int = 0

    def __post_init__(self):
        _check(self.warmup_steps)

    def __call__(self, step: int, steps: int) -> float:
        return _warm_up(step, self.warmup_steps) * 0.5 * (1 + math.cos(math.pi * _progress(step, steps, self.warmup_steps)))
