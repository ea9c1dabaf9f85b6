"""The numbers of a step, as docs/metrics.md defines them, and the seconds that its parts take."""

import math
import resource
import sys
import time
from collections import Counter
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
"""The numbers that depend on the machine; every other of a row is a function of the settings."""


def step_metrics(
    step: StepResult,
    number: int,
    texts: list[str],
    own_markers: Sequence[str],
    device: torch.device,
) -> dict[str, Any]:
    """Returns one row of metrics.jsonl; `texts` are the decoded completions, `own_markers` the
    run's beside Kim et al.'s.
    """
    rollouts = step.rollouts
    completions = [rollout.completion for rollout in rollouts]
    lengths = [len(completion.ids) for completion in completions]
    mismatch = mismatch_of(rollouts)
    tokens = sum(lengths)
    markers = marker_counts(texts, tokens, own_markers)
    return {
        "step": number,
        "loss": sum(rollout.weight * sum(rollout.divergence) for rollout in rollouts),
        "divergence": sum(sum(rollout.divergence) for rollout in rollouts) / tokens,
        "grad_norm": step.grad_norm,
        "learning_rate": step.learning_rate,
        "completion_tokens": tokens,
        "completion_length": fmean(lengths),
        "eos_rate": fmean(c.finish_reason == "stop" for c in completions),
        "truncation_rate": fmean(c.finish_reason == "length" for c in completions),
        "log_prob_mean": sum(sum(rollout.log_probs) for rollout in rollouts) / tokens,
        "top_token_share": fmean(_top_token_share(c.ids) for c in completions),
        "different_completions": len({tuple(c.ids) for c in completions}),
        "reference_cut_rate": fmean(rollout.cut for rollout in rollouts),
        "epistemic_count": markers["substring"]["total"],
        "epistemic_per_1000_tokens": markers["substring"]["per_1000_tokens"],
        "marker_counts": markers,
        **({"decomposition": _means(step.decompositions)} if step.decompositions else {}),
        "log_prob_gap_mean": mismatch.mean,
        "log_prob_gap_p99": mismatch.p99,
        "log_prob_gap_above_0.1": mismatch.share_above,
        "seconds": {part: round(seconds, 4) for part, seconds in step.seconds.items()},
        "tokens_per_second": round(tokens / sum(step.seconds.values()), 2),
        "peak_memory_gb": round(_peak_memory_gb(device), 3),
    }


def _means(numbers: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Returns the means, None where one is no number: where student and teacher are the same, their
    difference has neither direction nor parts.
    """
    means = {name: fmean(row[name] for row in numbers) for name in numbers[0]}
    return {name: mean if math.isfinite(mean) else None for name, mean in means.items()}


def _top_token_share(ids: Sequence[int]) -> float:
    """Returns the share of a completion's tokens that are its commonest one."""
    ((_, count),) = Counter(ids).most_common(1)
    return count / len(ids)


def rollout_rows(step: StepResult, number: int, texts: list[str]) -> list[CompletionRow]:
    """Returns the rows of a rollout file, one a rollout."""
    return [
        CompletionRow(
            t.id,
            t.completion.finish_reason,
            text,
            t.completion.ids,
            seed=t.seed,
            extras={
                "step": number,
                "index": t.index,
                "prompt_ids": t.prompt_ids,
                "sampler_log_probs": [round(x, 6) for x in t.completion.log_probs],
                "trainer_log_probs": [round(x, 6) for x in t.log_probs],
                "divergence": [float(f"{x:.5g}") for x in t.divergence],
            },
        )
        for t, text in zip(step.rollouts, texts, strict=True)
    ]


def decode(step: StepResult, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Returns the completions as text, special tokens shown."""
    ids = [rollout.completion.ids for rollout in step.rollouts]
    return tokenizer.batch_decode(ids, skip_special_tokens=False)


def _peak_memory_gb(device: torch.device) -> float:
    """Returns the most memory this process has held: on the device where that is a GPU, else
    resident.
    """
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
