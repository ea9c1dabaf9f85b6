"""How time and memory grow.

The loss grows in N and V, the passes after the rollouts in completion and reference length.
Exponents are slopes of log seconds (or log bytes) over log size, by least squares.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import torch

from .contenders import Case, ours_compiled, port
from .race import Lane, race
from .step import ours_after_rollouts
from .tables import bars, publish
from .world import World, tiny_world

Sizes = Sequence[int]


def _resized(case: Case | World, build: Callable, field: str, size: int) -> Callable:
    return build(replace(case, **{field: size}))


def contender(build: Callable, field: str, size: int) -> Callable:
    """`build` on the case with one size changed; found by name in another process."""
    return partial(_resized, build=build, field=field, size=size)


def exponents(sizes: Sizes, lanes: Sequence[Lane]) -> tuple[float, float]:
    """The exponents of seconds and of peak memory."""
    log_sizes = [math.log(size) for size in sizes]
    log_seconds = [math.log(median(lane.seconds)) for lane in lanes]
    log_bytes = [math.log(max(1, lane.peak_bytes)) for lane in lanes]
    seconds = linear_regression(log_sizes, log_seconds)
    memory = linear_regression(log_sizes, log_bytes)
    return seconds.slope, memory.slope


def series(
    title: str, case: Case | World, build: Callable, field: str, sizes: Sizes, rounds: int
) -> list[dict[str, Any]]:
    """One row a size, and the exponents in the last."""
    by_size = race({str(size): contender(build, field, size) for size in sizes}, case, rounds)
    lanes = [by_size[str(size)] for size in sizes]
    rows: list[dict[str, Any]] = [
        {
            "what": title,
            "size": size,
            "seconds": round(median(lane.seconds), 3),
            "peak MB": round(lane.peak_bytes / 1e6, 1),
        }
        for size, lane in zip(sizes, lanes, strict=True)
    ]
    time, memory = exponents(sizes, lanes)
    slopes = {"seconds": round(time, 2), "peak MB": round(memory, 2)}
    return [*rows, {"what": title, "size": "exponent", **slopes}]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="tiny problems, to see that everything runs"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    rounds = 1 if arguments.quick else arguments.rounds
    case = Case(N=256, D=512, V=32_768, dtype=dtype, device=device, chunk_rows=128)
    world = World(
        device,
        hidden=256,
        layers=4,
        vocabulary=8192,
        question=50,
        reference=50,
        completion=64,
        batch=4,
    )
    sizes = {
        "N": (256, 512, 1024),
        "V": (16_384, 32_768, 65_536),
        "completion": (256, 512, 1024),
        "reference": (600, 1200, 2400),
    }
    if arguments.quick:
        case = replace(case, N=32, D=16, V=512, chunk_rows=8)
        world = tiny_world(device, reference=30, batch=2)
        sizes = {
            "N": (16, 32, 64),
            "V": (256, 512, 1024),
            "completion": (4, 8, 16),
            "reference": (30, 60, 120),
        }
    loss = series("the loss, N tokens", case, ours_compiled, "N", sizes["N"], rounds)
    passes = []
    if not arguments.quick:  # each size is a process of its own
        loss += series("a port of the formulas, N tokens", case, port, "N", sizes["N"], rounds)
        loss += series("the loss, V rows of the head", case, ours_compiled, "V", sizes["V"], rounds)
        passes += series(
            "after the rollouts, completion length",
            world,
            ours_after_rollouts,
            "completion",
            sizes["completion"],
            rounds,
        )
        passes += series(
            "after the rollouts, reference length",
            world,
            ours_after_rollouts,
            "reference",
            sizes["reference"],
            rounds,
        )
    tables = {
        f"Loss: D = {case.D}, else N = {case.N}, V = {case.V}, chunks of {case.chunk_rows}": loss
    }
    if passes:
        tables[f"Passes: D = {world.hidden}, {world.layers} layers, batch {world.batch}"] = passes
    publish("scaling", arguments.output, tables, device)
    rows = [
        row | {"label": f"{row['what']}: {row['size']}"}
        for row in loss + passes
        if row["size"] != "exponent"
    ]
    bars(arguments.output / "scaling.png", rows, "label", ["seconds", "peak MB"])


if __name__ == "__main__":
    main()
