"""Will it fit, and how long will it take?  A run on GPUs, from sizes and stated assumptions.

docs/scaling.md describes the model.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from purified_opsd.errors import SettingsError, UserError
from purified_opsd.objective.chunked_loss import gpu_chunk_sizes
from purified_opsd.settings.names import did_you_mean
from purified_opsd.training.config import TrainingConfig

from .flops_memory import DeviceMemory, Lengths, device_memory, lengths_of, sequence_flops
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


def find_gpu(name: str) -> GPU:
    """Returns the GPU of that name.  Raises SettingsError that names those that it may be."""
    if name in GPUS:
        return GPUS[name]
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if len(word) > 2]
    meant = [known for known in GPUS if known.split("-")[0].endswith(tuple(words))]
    nearest = f" Did you mean {' or '.join(meant)}?" if meant else did_you_mean(name, GPUS)
    raise SettingsError(f"There is no GPU {name} in the table. Known: {', '.join(GPUS)}.{nearest}")


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
    """Least seconds of one layer in a decoding step: the host launches its kernels one by one."""

    def flops_per_second(self, gpu: GPU) -> float:
        return gpu.teraflops * 1e12 * self.compute

    def bytes_per_second(self, gpu: GPU) -> float:
        return gpu.terabytes_per_second * 1e12 * self.bandwidth


class Estimate(NamedTuple):
    """A step on each of the GPUs."""

    memory: DeviceMemory
    micro_tokens: int
    """Largest micro-batch that fits, up to what a step has for one."""
    seconds: dict[str, float]
    flops: int
    """Floating point operations of the whole step, over all GPUs."""
    tokens: int
    """Completion tokens, over all GPUs."""

    @property
    def step_seconds(self) -> float:
        return sum(self.seconds.values())


class DoesNotFit(UserError):
    """The run needs more memory than the GPU has: how much, for what, and what to change."""

    exit_code = 2


def estimate(
    config: TrainingConfig,
    dims: ModelDims,
    lengths: Lengths,
    gpu: GPU,
    gpus: int,
    assumed: Assumptions = Assumptions(),
) -> Estimate:
    """Memory and seconds of a step.

    Raises DoesNotFit where one sequence at a time is already too much.
    """
    sequences = math.ceil(config.batch_size / gpus)
    sampled_at_once = min(config.sampling.batch_size, sequences)
    config = replace(config, sampling=replace(config.sampling, batch_size=sampled_at_once))
    micro_tokens, memory = _largest_micro_batch(config, dims, lengths, gpu, gpus, assumed)
    return Estimate(
        memory=memory,
        micro_tokens=micro_tokens,
        seconds=_seconds(config, dims, lengths, gpu, sequences, assumed),
        flops=sequence_flops(config, dims, lengths).total * config.batch_size,
        tokens=lengths.completion * config.batch_size,
    )


def _largest_micro_batch(
    config: TrainingConfig,
    dims: ModelDims,
    lengths: Lengths,
    gpu: GPU,
    gpus: int,
    assumed: Assumptions,
) -> tuple[int, DeviceMemory]:
    """Tokens and memory of the largest micro-batch, from one sequence to a step's frozen passes."""
    gpu_bytes = gpu.gigabytes * 1e9
    usable = gpu_bytes * assumed.usable
    rows = gpu_chunk_sizes(int(gpu_bytes), dims.vocabulary, config.chunk_rows)

    def memory(tokens: int) -> DeviceMemory:
        return device_memory(config, dims, lengths, tokens, rows, BFLOAT16, gpus)

    frozen = [lengths.context(name) for name in config.target.contexts]
    one_sequence = max(*frozen, lengths.context("base"))
    least = memory(one_sequence)
    if least.peak > usable:
        raise DoesNotFit(
            f"One sequence of {one_sequence} tokens needs {least.peak / 1e9:.1f} GB (weights "
            f"{least.weights / 1e9:.1f}, adapter and optimizer {least.adapter / 1e9:.1f}, student "
            f"{least.student / 1e9:.1f}, sampler {least.sampler / 1e9:.1f}), and "
            f"{usable / 1e9:.1f} of {gpu.gigabytes:g} GB are usable. Lower sampling.batch_size, "
            "sampling.max_new_tokens or prompts.max_tokens, take a larger GPU, or shard the base "
            "over several (--sharding fsdp2)."
        )
    sequences = math.ceil(config.batch_size / gpus)
    most = max(one_sequence, sequences * sum(frozen))
    # Memory grows with the tokens, so the largest that fits is found by halving.
    larger = range(one_sequence + 1, most + 1)
    fitting = bisect_right(larger, usable, key=lambda tokens: memory(tokens).peak)
    micro_tokens = one_sequence + fitting
    return micro_tokens, memory(micro_tokens)


def _seconds(
    config: TrainingConfig,
    dims: ModelDims,
    lengths: Lengths,
    gpu: GPU,
    sequences: int,
    assumed: Assumptions,
) -> dict[str, float]:
    """Seconds of each part of a step on a GPU that works on so many sequences."""
    flops = sequence_flops(config, dims, lengths)
    speed = assumed.flops_per_second(gpu)
    rows = min(sequences, config.sampling.batch_size)
    token_seconds = decoding_seconds(config, dims, lengths, gpu, rows, assumed)
    decoding = math.ceil(sequences / rows) * lengths.completion * token_seconds
    return {
        "rollout": sequences * flops.prefill / speed + decoding,
        "frozen": sequences * flops.frozen / speed,
        "student": sequences * flops.student / speed,
        "loss": sequences * flops.loss / speed,
    }


def decoding_seconds(
    config: TrainingConfig,
    dims: ModelDims,
    lengths: Lengths,
    gpu: GPU,
    rows: int,
    assumed: Assumptions,
) -> float:
    """Seconds for one token of each of `rows` sequences, half-way through their completions."""
    token_cache = 2 * dims.kv_heads * dims.head_dim * dims.layers
    cached_tokens = rows * (lengths.base + lengths.completion / 2)
    weights = dims.body_parameters + dims.head_parameters
    read_bytes = BFLOAT16 * (weights + cached_tokens * token_cache)
    token_flops = sequence_flops(config, dims, lengths).decode / lengths.completion
    return max(
        read_bytes / assumed.bytes_per_second(gpu),
        rows * token_flops / assumed.flops_per_second(gpu),
        assumed.layer_launch_s * dims.layers,
    )


class Growth(NamedTuple):
    """By what doubling one size multiplies a step's seconds and the peak memory."""

    seconds: float
    memory: float


def growth(
    config: TrainingConfig, dims: ModelDims, lengths: Lengths, gpu: GPU, gpus: int
) -> dict[str, Growth]:
    """What doubling each size does, by the size's name."""
    doubled_tokens = 2 * config.sampling.max_new_tokens
    long_sampling = replace(config.sampling, max_new_tokens=doubled_tokens)
    long_config = replace(config, sampling=long_sampling)
    long_completions = lengths._replace(completion=2 * lengths.completion)
    long_references = lengths_of(lengths.base, 2 * lengths.reference, lengths.completion)
    large_head = replace(dims, vocabulary=2 * dims.vocabulary)
    doubled = {
        "completion length": estimate(long_config, dims, long_completions, gpu, gpus),
        "reference length": estimate(config, dims, long_references, gpu, gpus),
        "vocabulary": estimate(config, large_head, lengths, gpu, gpus),
        "number of GPUs": estimate(config, dims, lengths, gpu, 2 * gpus),
    }
    before = estimate(config, dims, lengths, gpu, gpus)
    return {
        name: Growth(
            seconds=after.step_seconds / before.step_seconds,
            memory=after.memory.peak / before.memory.peak,
        )
        for name, after in doubled.items()
    }


def report(
    config: TrainingConfig, dims: ModelDims, lengths: Lengths, gpu_name: str, gpus: int
) -> str:
    """The plan as text."""
    gpu, assumed = GPUS[gpu_name], Assumptions()
    plan = estimate(config, dims, lengths, gpu, gpus, assumed)
    hours = config.steps * plan.step_seconds / 3600
    lines = [
        f"{config.model.path}, {config.arm}, on {gpus} x {gpu_name}",
        f"{config.batch_size} questions a step; tokens: question {lengths.base}, reference "
        f"{lengths.reference}, completion {lengths.completion}",
        "",
        f"Memory of one GPU (GB of {gpu.gigabytes:g}, {assumed.usable:.0%} usable)",
        *_memory_lines(plan),
        f"Largest micro-batch that fits: --micro-batch-tokens {plan.micro_tokens}",
        "",
        f"A step: {plan.tokens} completion tokens, {plan.flops / 1e15:.2f} PFLOP",
        *(f"  {part:<8} {seconds:8.1f} s" for part, seconds in plan.seconds.items()),
        f"  together {plan.step_seconds:8.1f} s; {config.steps} steps {hours:.1f} h",
        "",
        "Doubling one size multiplies time and memory by",
        *(
            f"  {name:<18} {factor.seconds:5.2f} {factor.memory:6.2f}"
            for name, factor in growth(config, dims, lengths, gpu, gpus).items()
        ),
        "",
        f"Assumed, not measured: products reach {assumed.compute:.0%} of the peak, decoding "
        f"{assumed.bandwidth:.0%} of the bandwidth, a layer of a decoding step takes at least "
        f"{assumed.layer_launch_s * 1e3:g} ms; summing the adapter's gradient over the GPUs takes "
        "no time.",
    ]
    return "\n".join(lines)


def _memory_lines(plan: Estimate) -> list[str]:
    """The parts of one GPU's memory, in GB."""
    memory, gb = plan.memory, 1e9
    return [
        f"  weights, bfloat16               {memory.weights / gb:8.2f}",
        f"  adapter, gradient, optimizer    {memory.adapter / gb:8.2f}",
        f"  and, one after another: sampler {memory.sampler / gb:8.2f}",
        f"                          student {memory.student / gb:8.2f}   at {plan.micro_tokens} "
        "tokens a micro-batch",
        f"                          loss    {memory.loss / gb:8.2f}",
        f"  peak                            {memory.peak / gb:8.2f}",
    ]
