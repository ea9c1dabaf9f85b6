"""Will it fit, and how long will it take?  A run on GPUs, from sizes and stated assumptions;
docs/scaling.md tells the model.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from purified_opsd.errors import UserError
from purified_opsd.objective.chunked_loss import rows_within
from purified_opsd.training.config import TrainingConfig

from .flops_memory import Lengths, Memory, lengths_of, memory, operations
from .model_dims import ModelDims

BFLOAT16 = 2


@dataclass(frozen=True)
class GPU:
    """A device as its maker describes it: dense bfloat16, no sparsity."""

    gigabytes: float
    teraflops: float
    terabytes_per_second: float


GPUS: Mapping[str, GPU] = {
    "b200-180gb": GPU(180.0, 2250.0, 8.0),
    "h200-141gb": GPU(141.0, 989.0, 4.8),
    "h100-80gb": GPU(80.0, 989.0, 3.35),
    "a100-80gb": GPU(80.0, 312.0, 2.04),
    "a100-40gb": GPU(40.0, 312.0, 1.56),
    "l40s-48gb": GPU(48.0, 362.0, 0.86),
    "rtx4090-24gb": GPU(24.0, 165.0, 1.01),
}


@dataclass(frozen=True)
class Assumptions:
    """What no formula gives.  None of these was measured here."""

    usable: float = 0.92
    """Share of the memory that is left beside the driver, the libraries and fragmentation."""
    compute: float = 0.4
    """Share of the peak operations that products reach."""
    bandwidth: float = 0.6
    """Share of the peak bandwidth that decoding reaches."""
    layer_launch_s: float = 0.0004
    """Least time of one layer in one decoding step, in which the host launches its kernels one by
    one.
    """


class Estimate(NamedTuple):
    """A step on each of the GPUs."""

    memory: Memory
    micro_tokens: int
    """Largest micro-batch that fits, up to what a step has for one."""
    seconds: dict[str, float]
    operations: int
    tokens: int
    """Of completions, over all GPUs."""

    @property
    def step_seconds(self) -> float:
        return sum(self.seconds.values())


class DoesNotFit(UserError):
    """The run needs more memory than the GPU has: how much, for what, and what to change."""

    exit_code = 2


def estimate(
    run: TrainingConfig,
    shape: ModelDims,
    lengths: Lengths,
    gpu: GPU,
    gpus: int,
    assumed: Assumptions = Assumptions(),
) -> Estimate:
    """Raises DoesNotFit where one sequence at a time is already too much."""
    sequences = math.ceil(run.batch_size / gpus)
    run = replace(
        run, sampling=replace(run.sampling, batch_size=min(run.sampling.batch_size, sequences))
    )
    rows = rows_within(int(gpu.gigabytes * 1e9), shape.vocabulary, run.chunk_rows)
    longest = max(lengths.context(name) for name in (*run.target.contexts, "base"))
    room = gpu.gigabytes * 1e9 * assumed.usable

    def needed(tokens: int) -> Memory:
        return memory(run, shape, lengths, tokens, rows, BFLOAT16, gpus)

    if needed(longest).peak > room:
        parts = needed(longest)
        raise DoesNotFit(
            f"One sequence of {longest} tokens needs {parts.peak / 1e9:.1f} GB (weights "
            f"{parts.weights / 1e9:.1f}, adapter and optimizer {parts.adapter / 1e9:.1f}, student "
            f"{parts.student / 1e9:.1f}, sampler {parts.sampler / 1e9:.1f}), and {room / 1e9:.1f} "
            f"of {gpu.gigabytes:g} GB are usable. Lower sampling.batch_size, sampling.max_new_tokens or "
            "prompts.max_tokens, take a larger GPU, or shard the base over several (--sharding "
            "fsdp2)."
        )
    most = max(
        longest, sequences * sum(lengths.context(name) for name in run.target.contexts)
    )  # the frozen passes of a step
    fits = longest + bisect_right(
        range(longest, most), room, key=lambda tokens: needed(tokens + 1).peak
    )
    each = operations(run, shape, lengths)
    return Estimate(
        memory=needed(fits),
        micro_tokens=fits,
        seconds=_seconds(run, shape, lengths, gpu, sequences, assumed),
        operations=each.total * run.batch_size,
        tokens=lengths.completion * run.batch_size,
    )


def _seconds(
    run: TrainingConfig,
    shape: ModelDims,
    lengths: Lengths,
    gpu: GPU,
    sequences: int,
    assumed: Assumptions,
) -> dict[str, float]:
    each = operations(run, shape, lengths)
    rate = gpu.teraflops * 1e12 * assumed.compute
    rows = min(sequences, run.sampling.batch_size)
    one_token = decoding_seconds(run, shape, lengths, gpu, rows, assumed)
    return {
        "rollout": sequences * each.prefill / rate
        + math.ceil(sequences / rows) * lengths.completion * one_token,
        "frozen": sequences * each.frozen / rate,
        "student": sequences * each.student / rate,
        "loss": sequences * each.loss / rate,
    }


def decoding_seconds(
    run: TrainingConfig,
    shape: ModelDims,
    lengths: Lengths,
    gpu: GPU,
    rows: int,
    assumed: Assumptions,
) -> float:
    """Of one token of each of `rows` sequences, half-way through their completions."""
    each = operations(run, shape, lengths)
    held = (
        BFLOAT16
        * (lengths.question + lengths.completion / 2)
        * 2
        * shape.kv_heads
        * shape.head_dim
        * shape.layers
        * rows
    )
    read = BFLOAT16 * (shape.body_parameters + shape.head_parameters) + held
    return max(
        read / (gpu.terabytes_per_second * 1e12 * assumed.bandwidth),
        rows * each.decode / lengths.completion / (gpu.teraflops * 1e12 * assumed.compute),
        assumed.layer_launch_s * shape.layers,
    )


def growth(
    run: TrainingConfig, shape: ModelDims, lengths: Lengths, gpu: GPU, gpus: int
) -> dict[str, tuple[float, float]]:
    """By what doubling one size multiplies the time of a step and the memory of its loss phase."""
    longer = run.sampling.max_new_tokens * 2
    changed = {
        "completion length": (
            replace(run, sampling=replace(run.sampling, max_new_tokens=longer)),
            shape,
            lengths._replace(completion=2 * lengths.completion),
            gpus,
        ),
        "reference length": (
            run,
            shape,
            lengths_of(lengths.question, 2 * lengths.reference, lengths.completion),
            gpus,
        ),
        "vocabulary": (run, replace(shape, vocabulary=2 * shape.vocabulary), lengths, gpus),
        "number of GPUs": (run, shape, lengths, 2 * gpus),
    }
    before = estimate(run, shape, lengths, gpu, gpus)
    return {
        name: (after.step_seconds / before.step_seconds, after.memory.peak / before.memory.peak)
        for name, (a_run, a_shape, a_lengths, a_gpus) in changed.items()
        for after in [estimate(a_run, a_shape, a_lengths, gpu, a_gpus)]
    }


def report(run: TrainingConfig, shape: ModelDims, lengths: Lengths, name: str, gpus: int) -> str:
    """The plan as text."""
    gpu, assumed = GPUS[name], Assumptions()
    found = estimate(run, shape, lengths, gpu, gpus, assumed)
    parts, gb = found.memory, 1e9
    lines = [
        f"{run.model.path}, {run.arm}, on {gpus} x {name}",
        f"{run.batch_size} questions a step; tokens: question {lengths.question}, reference "
        f"{lengths.reference}, completion {lengths.completion}",
        "",
        f"Memory of one GPU (GB of {gpu.gigabytes:g}, {assumed.usable:.0%} usable)",
        f"  weights, bfloat16               {parts.weights / gb:8.2f}",
        f"  adapter, gradient, optimizer    {parts.adapter / gb:8.2f}",
        f"  and, one after another: sampler {parts.sampler / gb:8.2f}",
        f"                          student {parts.student / gb:8.2f}   at {found.micro_tokens} "
        "tokens a micro-batch",
        f"                          loss    {parts.loss / gb:8.2f}",
        f"  peak                            {parts.peak / gb:8.2f}",
        f"Largest micro-batch that fits: --micro-batch-tokens {found.micro_tokens}",
        "",
        f"A step: {found.tokens} completion tokens, {found.operations / 1e15:.2f} PFLOP",
        *(f"  {part:<8} {seconds:8.1f} s" for part, seconds in found.seconds.items()),
        f"  together {found.step_seconds:8.1f} s; {run.steps} steps "
        f"{run.steps * found.step_seconds / 3600:.1f} h",
        "",
        "Doubling one size multiplies time and memory by",
        *(
            f"  {what:<18} {t:5.2f} {m:6.2f}"
            for what, (t, m) in growth(run, shape, lengths, gpu, gpus).items()
        ),
        "",
        f"Assumed, not measured: products reach {assumed.compute:.0%} of the peak, decoding "
        f"{assumed.bandwidth:.0%} of the bandwidth, a layer of a decoding step takes at least "
        f"{assumed.layer_launch_s * 1e3:g} ms; summing the adapter's gradient over the GPUs takes "
        "no time.",
    ]
    return "\n".join(lines)
