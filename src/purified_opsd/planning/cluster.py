"""A run on nodes of eight GPUs: the simulation, fed with the plan's estimates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean

from purified_opsd.training.config import TrainingConfig

from .estimate import GPU, GPUS, Assumptions, decoding_seconds
from .flops_memory import FLOAT32, Lengths, sequence_flops
from .model_dims import ModelDims
from .simulation import (
    PARTS,
    Cluster,
    Rates,
    SimulationResult,
    lognormal_lengths,
    scaling_exponents,
    simulate,
)

GPUS_A_NODE = 8
STEPS = 20
"""Simulated for each number of nodes."""


@dataclass(frozen=True)
class Links:
    """What lies between GPUs.  None of this was measured."""

    bytes_a_second: float = 40e9
    """Between two nodes, each way."""
    hop: float = 10e-6
    """Least seconds of one message."""
    adapter_load: float = 0.5
    """A server's seconds to take over an adapter that has arrived."""
    disk_bytes_a_second: float = 1e9
    """The file system that checkpoints go to, with hashing and flushing."""


@dataclass(frozen=True)
class Completions:
    """How long completions are: the logarithm is normal, and `sampling.max_new_tokens` cuts."""

    median: int
    spread: float = 0.5


def colocated(nodes: int, config: TrainingConfig) -> Cluster:
    """Every GPU samples, and then trains; with more GPUs than questions the rest stand idle."""
    gpus = GPUS_A_NODE * nodes
    used = min(gpus, config.batch_size)
    return Cluster(
        samplers=used,
        trainers=used,
        rows=config.sampling.batch_size,
        gpus=gpus,
    )


def disaggregated(nodes: int, config: TrainingConfig) -> Cluster:
    """Half of the GPUs serve, half train."""
    half = GPUS_A_NODE * nodes // 2
    used = min(half, config.batch_size)
    return Cluster(
        samplers=used,
        trainers=used,
        rows=config.sampling.batch_size,
        gpus=2 * half,
    )


ARRANGEMENTS = {
    "every GPU samples and trains": colocated,
    "half of them serve, half train": disaggregated,
}


def estimated_rates(
    config: TrainingConfig, dims: ModelDims, lengths: Lengths, gpu: GPU, assumed: Assumptions
) -> Rates:
    """The plan's estimates on one GPU that exchanges nothing."""
    speed = assumed.flops_per_second(gpu)

    def decode(rows: int) -> float:
        return decoding_seconds(config, dims, lengths, gpu, rows, assumed)

    def train(tokens: int) -> float:
        of_completion = lengths._replace(completion=tokens)
        flops = sequence_flops(config, dims, of_completion)
        training = flops.frozen + flops.student + flops.loss
        return training / speed

    mean_flops = sequence_flops(config, dims, lengths)
    return Rates(
        prefill=mean_flops.prefill / speed,
        decode=cache(decode),
        train=cache(train),
        adapter=0.0,
        gradient=0.0,
        checkpoint=0.0,
    )


def with_exchange(
    rates: Rates, config: TrainingConfig, dims: ModelDims, trainers: int, links: Links = Links()
) -> Rates:
    """The rates with what the links take: a ring for the gradient, a message for each tensor."""
    adapter_bytes = FLOAT32 * dims.adapter_parameters(config.adapter)
    tensors = 2 * dims.layers * len(dims.linears)
    share_sent = 2 * (trainers - 1) / trainers
    ring = share_sent * adapter_bytes / links.bytes_a_second
    rounds = math.ceil(math.log2(trainers))
    messages = tensors * 2 * rounds
    hops = messages * links.hop
    sending = adapter_bytes / links.bytes_a_second
    # Weights and AdamW's two moments.
    checkpoint_seconds = 3 * adapter_bytes / links.disk_bytes_a_second
    return replace(
        rates,
        adapter=sending + links.adapter_load,
        gradient=ring + hops,
        checkpoint=checkpoint_seconds / config.checkpoint_every,
    )


def cluster_report(
    config: TrainingConfig,
    dims: ModelDims,
    lengths: Lengths,
    gpu_name: str,
    nodes: Sequence[int],
    completions: Completions,
) -> str:
    """The simulated steps as a table for each arrangement, with what they say."""
    steps = lognormal_lengths(
        completions.median,
        completions.spread,
        config.sampling.max_new_tokens,
        config.batch_size,
        STEPS,
    )
    mean = fmean(length for step in steps for length in step)
    mean_lengths = lengths._replace(completion=round(mean))
    gpu = GPUS[gpu_name]
    rates = estimated_rates(config, dims, mean_lengths, gpu, Assumptions())
    lines = ["", _title(config, gpu_name, completions, mean)]
    for title, arrangement in ARRANGEMENTS.items():
        rows = []
        results = []
        for count in nodes:
            cluster = arrangement(count, config)
            exchanging = with_exchange(rates, config, dims, cluster.trainers)
            result = simulate(cluster, exchanging, steps)
            row = _row(count, cluster, result, config.steps)
            rows.append(row)
            results.append(result)
        lines += ["", title, _header(), *rows]
        lines += _conclusion(nodes, results)
    lines += ["", f"Assumed, not measured: the plan's shares, and {Links()}."]
    return "\n".join(lines)


def _title(config: TrainingConfig, gpu_name: str, completions: Completions, mean: float) -> str:
    """What was simulated."""
    longest = config.sampling.max_new_tokens
    return (
        f"Simulated, on nodes of {GPUS_A_NODE} x {gpu_name}: {STEPS} steps of "
        f"{config.batch_size} completions, {mean:.0f} tokens in the mean "
        f"(median {completions.median}, spread {completions.spread:g}, cut off at {longest})"
    )


def _header() -> str:
    parts = "".join(f"{part:>12}" for part in PARTS)
    totals = f"{'step, s':>10}{'waiting':>10}{'GPU hours':>11}"
    return f"{'nodes':>6}{parts}{totals}"


def _row(nodes: int, cluster: Cluster, result: SimulationResult, steps: int) -> str:
    parts = "".join(f"{result.seconds[part]:>12.2f}" for part in PARTS)
    step_seconds = result.step_seconds
    hours = cluster.gpus * step_seconds * steps / 3600
    totals = f"{step_seconds:>10.1f}{result.waiting:>10.0%}{hours:>11.0f}"
    return f"{nodes:>6}{parts}{totals}"


def _conclusion(nodes: Sequence[int], results: Sequence[SimulationResult]) -> list[str]:
    """How seconds go with the number of nodes; nothing where there is one number only."""
    if len(nodes) < 2:
        return []
    exponents = scaling_exponents(nodes, results)
    saturating = max(("rollout", "training"), key=lambda part: exponents[part])
    named = [f"{part} {value:+.2f}" for part, value in exponents.items()]
    slopes = ", ".join(named)
    return [
        f"seconds ~ nodes^x (-1: halves at each doubling; 0: no gain): {slopes}. The {saturating} "
        "saturates first."
    ]
