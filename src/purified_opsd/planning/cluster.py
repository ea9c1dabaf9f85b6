"""A run on nodes of eight GPUs: the simulation, fed with the plan's estimates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean

from purified_opsd.training.config import TrainingConfig

from .estimate import GPU, GPUS, Assumptions, decoding_seconds
from .flops_memory import FLOAT32, Lengths, operations
from .model_dims import ModelDims
from .simulation import PARTS, Cluster, Rates, Simulated, exponents, long_tailed, simulate

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
    """Of the file system that checkpoints go to, hashed and flushed."""


@dataclass(frozen=True)
class Completions:
    """How long completions are: the logarithm is normal, and `sampling.max_new_tokens` cuts."""

    median: int
    spread: float = 0.5


def colocated(nodes: int, run: TrainingConfig) -> Cluster:
    """Every GPU samples, and then trains; with more GPUs than questions the rest stand idle."""
    used = min(GPUS_A_NODE * nodes, run.batch_size)
    return Cluster(used, used, run.sampling.batch_size, GPUS_A_NODE * nodes)


def disaggregated(nodes: int, run: TrainingConfig) -> Cluster:
    """Half of the GPUs serve, half train."""
    half = GPUS_A_NODE * nodes // 2
    return Cluster(
        min(half, run.batch_size), min(half, run.batch_size), run.sampling.batch_size, 2 * half
    )


ARRANGEMENTS = {
    "every GPU samples and trains": colocated,
    "half of them serve, half train": disaggregated,
}


def rates_of(
    run: TrainingConfig, shape: ModelDims, lengths: Lengths, gpu: GPU, assumed: Assumptions
) -> Rates:
    """As the plan estimates them, on one GPU that exchanges nothing."""
    speed = gpu.teraflops * 1e12 * assumed.compute

    def train(tokens: int) -> float:
        each = operations(run, shape, lengths._replace(completion=tokens))
        return (each.frozen + each.student + each.loss) / speed

    return Rates(
        prefill=operations(run, shape, lengths).prefill / speed,
        decode=cache(lambda rows: decoding_seconds(run, shape, lengths, gpu, rows, assumed)),
        train=cache(train),
        adapter=0.0,
        gradient=0.0,
        checkpoint=0.0,
    )


def linked(
    rates: Rates, run: TrainingConfig, shape: ModelDims, trainers: int, links: Links = Links()
) -> Rates:
    """The same, and what the links take: a ring for the gradient, a message for each of its
    tensors.
    """
    adapter = FLOAT32 * shape.adapter_parameters(run.adapter)
    tensors = 2 * shape.layers * len(shape.linears)
    ring = 2 * (trainers - 1) / trainers * adapter / links.bytes_a_second
    hops = tensors * 2 * math.ceil(math.log2(trainers)) * links.hop
    return replace(
        rates,
        adapter=adapter / links.bytes_a_second + links.adapter_load,
        gradient=ring + hops,
        checkpoint=3 * adapter / links.disk_bytes_a_second / run.checkpoint_every,
    )


def cluster_report(
    run: TrainingConfig,
    shape: ModelDims,
    lengths: Lengths,
    name: str,
    nodes: Sequence[int],
    drawn: Completions,
) -> str:
    """The simulated steps as a table for each arrangement, with what they say."""
    steps = long_tailed(
        drawn.median, drawn.spread, run.sampling.max_new_tokens, run.batch_size, STEPS
    )
    mean = fmean(length for step in steps for length in step)
    rates = rates_of(
        run, shape, lengths._replace(completion=round(mean)), GPUS[name], Assumptions()
    )
    lines = [
        "",
        f"Simulated, on nodes of {GPUS_A_NODE} x {name}: {STEPS} steps of {run.batch_size} "
        f"completions, {mean:.0f} tokens in the mean (median {drawn.median}, spread "
        f"{drawn.spread:g}, cut off at {run.sampling.max_new_tokens})",
    ]
    for title, arrangement in ARRANGEMENTS.items():
        results = []
        for count in nodes:
            cluster = arrangement(count, run)
            results.append(
                (cluster, simulate(cluster, linked(rates, run, shape, cluster.trainers), steps))
            )
        rows = [
            _row(count, cluster, found, run.steps)
            for count, (cluster, found) in zip(nodes, results, strict=True)
        ]
        lines += ["", title, _HEADER, *rows, *_reading(nodes, [found for _, found in results])]
    return "\n".join([*lines, "", f"Assumed, not measured: the plan's shares, and {Links()}."])


_HEADER = (
    f"{'nodes':>6}"
    + "".join(f"{part:>12}" for part in PARTS)
    + f"{'step, s':>10}{'waiting':>10}{'GPU hours':>11}"
)


def _row(nodes: int, cluster: Cluster, found: Simulated, steps: int) -> str:
    parts = "".join(f"{found.seconds[part]:>12.2f}" for part in PARTS)
    hours = cluster.gpus * found.step_seconds * steps / 3600
    return f"{nodes:>6}{parts}{found.step_seconds:>10.1f}{found.waiting:>10.0%}{hours:>11.0f}"


def _reading(nodes: Sequence[int], results: Sequence[Simulated]) -> list[str]:
    if len(nodes) < 2:
        return []
    found = exponents(nodes, results)
    first = max(("rollout", "training"), key=lambda part: found[part])
    shown = ", ".join(f"{part} {value:+.2f}" for part, value in found.items())
    return [
        f"seconds ~ nodes^x (-1: halves at each doubling; 0: no gain): {shown}. The {first} "
        "saturates first."
    ]
