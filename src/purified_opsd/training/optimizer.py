"""The optimizer of the adapter, and the schedule of its learning rate.

A schedule is a function of the step, counted from 0, and the number of steps; its value is a factor
on the learning rate.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch


@dataclass(frozen=True)
class AdamW:
    """The optimizer of the adapter.  Upstream's settings."""

    learning_rate: float = 5e-6
    """Largest rate; the schedule is a factor on it.  Source: the paper."""
    weight_decay: float = 0.0
    """Decoupled decay of the adapter.  Source: upstream."""
    beta1: float = 0.9
    """Decay of the gradient's running mean.  Source: upstream."""
    beta2: float = 0.999
    """Decay of the running mean of its square.  Source: upstream."""
    epsilon: float = 1e-8
    """Added to the denominator.  Source: upstream."""
    max_grad_norm: float = 0.1
    """The gradient of a step is scaled down to this norm where it is longer.  Source: upstream."""

    def __post_init__(self):
        above_zero = self.learning_rate > 0 and self.max_grad_norm > 0 and self.epsilon > 0
        betas_fit = 0 <= self.beta1 < 1 and 0 <= self.beta2 < 1
        if not (above_zero and betas_fit and self.weight_decay >= 0):
            raise ValueError(
                "optimizer needs learning_rate, max_grad_norm and epsilon above 0, weight_decay of "
                f"at least 0 and betas in [0, 1), got {self}. For no clipping give a large norm, "
                "such as 1e9."
            )

    def build(self, parameters: list[torch.nn.Parameter]) -> torch.optim.AdamW:
        """Returns PyTorch's AdamW with these settings."""
        return torch.optim.AdamW(
            parameters,
            self.learning_rate,
            (self.beta1, self.beta2),
            self.epsilon,
            self.weight_decay,
            foreach=False,
        )


@runtime_checkable
class Schedule(Protocol):
    """The factor on the learning rate at each step."""

    def __call__(self, step: int, steps: int) -> float: ...


def _check_warmup(warmup_steps: int) -> None:
    if warmup_steps < 0:
        raise ValueError(f"schedule.warmup_steps must be at least 0, got {warmup_steps}.")


def _warm_up(step: int, warmup_steps: int) -> float:
    """Returns the factor that climbs to 1 over the first steps."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def _progress(step: int, steps: int, warmup_steps: int) -> float:
    """Returns how much of the steps after the warm-up is behind, from 0 to 1."""
    after_warmup = max(0, step - warmup_steps)
    return min(1.0, after_warmup / max(1, steps - warmup_steps))


@dataclass(frozen=True)
class Constant:
    """The same rate throughout, after an optional warm-up."""

    kind: ClassVar[str] = "constant"
    warmup_steps: int = 0
    """Steps over which the rate first climbs.  Source: upstream."""

    def __post_init__(self):
        _check_warmup(self.warmup_steps)

    def __call__(self, step: int, steps: int) -> float:
        return _warm_up(step, self.warmup_steps)


@dataclass(frozen=True)
class Linear:
    """Falls to zero along a line."""

    kind: ClassVar[str] = "linear"
    warmup_steps: int = 0
    """Steps over which the rate first climbs.  Source: upstream."""

    def __post_init__(self):
        _check_warmup(self.warmup_steps)

    def __call__(self, step: int, steps: int) -> float:
        progress = _progress(step, steps, self.warmup_steps)
        return _warm_up(step, self.warmup_steps) * (1 - progress)


@dataclass(frozen=True)
class Cosine:
    """Falls to zero along half a cosine."""

    kind: ClassVar[str] = "cosine"
    warmup_steps: int = 0
    """Steps over which the rate first climbs.  Source: upstream."""

    def __post_init__(self):
        _check_warmup(self.warmup_steps)

    def __call__(self, step: int, steps: int) -> float:
        progress = _progress(step, steps, self.warmup_steps)
        return _warm_up(step, self.warmup_steps) * 0.5 * (1 + math.cos(math.pi * progress))
