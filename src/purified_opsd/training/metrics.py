"""The numbers of a step, as docs/metrics.md defines them.

Seconds by part of a step.
"""

import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from purified_opsd.analysis.markers import marker_counts
from purified_opsd.storage.completions import CompletionRow

from .mismatch import mismatch_of
from .rollouts import StepResult

MEASURED = ("seconds", "tokens_per_second", "peak_memory_gb")
"""What depends on the machine; everything else of a row is a function of the settings."""


def step_metrics(
    step: StepResult,
    number: int,
    texts: list[str],
    own_markers: Sequence[str],
    device: torch.device,
) -> dict[str, Any]:
    """One row of metrics.jsonl; `texts` are the decoded completions, `own_markers` the run's beside
    Kim et al.'s.
    """
    trajectories = step.trajectories
    completions = [t.completion for t in trajectories]
    lengths = [len(completion.ids) for completion in completions]
    gap = mismatch_of(trajectories)
    tokens = sum(lengths)
    markers = marker_counts(texts, tokens, own_markers)
    return {
        "step": number,
        "loss": sum(t.weight * sum(t.divergence) for t in trajectories),
        "divergence": sum(sum(t.divergence) for t in trajectories) / tokens,
        "grad_norm": step.grad_norm,
        "learning_rate": step.learning_rate,
        "completion_tokens": tokens,
        "completion_length": fmean(lengths),
        "eos_rate": fmean(c.finish_reason == "stop" for c in completions),
        "truncation_rate": fmean(c.finish_reason == "length" for c in completions),
        "reference_cut_rate": fmean(t.cut for t in trajectories),
        "epistemic_count": markers["substring"]["total"],
        "epistemic_per_1000_tokens": markers["substring"]["per_1000_tokens"],
        "marker_counts": markers,
        **({"decomposition": _means(step.decompositions)} if step.decompositions else {}),
        "log_prob_gap_mean": gap.mean,
        "log_prob_gap_p99": gap.p99,
        "log_prob_gap_above_0.1": gap.above,
        "seconds": {part: round(seconds, 4) for part, seconds in step.seconds.items()},
        "tokens_per_second": round(tokens / sum(step.seconds.values()), 2),
        "peak_memory_gb": round(_peak_memory_gb(device), 3),
    }


def _means(numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(each[name] for each in numbers) for name in numbers[0]}


def rollout_rows(step: StepResult, number: int, texts: list[str]) -> list[CompletionRow]:
    """One row of a rollout file a trajectory."""
    return [
        CompletionRow(
            t.id,
            t.completion.finish_reason,
            text,
            t.completion.ids,
            seed=t.seed,
            extras={
                "step": number,
                "place": t.place,
                "prompt_ids": t.question,
                "sampler_log_probs": [round(x, 6) for x in t.completion.log_probs],
                "trainer_log_probs": [round(x, 6) for x in t.log_probs],
                "divergence": [float(f"{x:.5g}") for x in t.divergence],
            },
        )
        for t, text in zip(step.trajectories, texts, strict=True)
    ]


def decode(step: StepResult, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The completions as text, special tokens shown."""
    return tokenizer.batch_decode(
        [t.completion.ids for t in step.trajectories], skip_special_tokens=False
    )


def _peak_memory_gb(device: torch.device) -> float:
    """Most memory this process has held: on the device where that is a GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class StepTimer:
    """Adds up the seconds spent under each name; waits for the device at both ends."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = self._now()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + self._now() - start

    def _now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()
