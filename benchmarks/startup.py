"""How soon a command that needs no weights has answered, beside `import torch`.

Each answer is a process of its own. The processes take turns, one at a time, and the fastest of
each counts: what else the machine does only ever adds.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .tables import bars, publish

COMMAND = ["-m", "purified_opsd.cli"]
FLOOR = "import torch"
ALLOWED = 2.0
"""Times the floor's seconds, within which each answer is to come."""

ANSWERS: Mapping[str, Sequence[str]] = {
    FLOOR: ["-c", "import torch"],
    "--help": [*COMMAND, "--help"],
    "--version": [*COMMAND, "--version"],
    "train --help": [*COMMAND, "train", "--help"],
    "recipes": [*COMMAND, "recipes"],
    "recipes NAME": [*COMMAND, "recipes", "qwen3-8b.math-cot.pmi"],
    "settings": [*COMMAND, "settings"],
    "an unknown recipe": [*COMMAND, "train", "qwen3-8b.mathcot.pmi"],
    "an unknown setting": [*COMMAND, "train", "miniature.pmi", "--lerning-rate", "1"],
    "a wrong value": [*COMMAND, "train", "miniature.pmi", "--steps", "many"],
    "no settings file": [*COMMAND, "train", "gone.yaml"],
    "no data": [*COMMAND, "train", "miniature.pmi", "--data", "gone.jsonl"],
    "resume, no run": [*COMMAND, "resume", "gone"],
    "evaluate, a wrong value": [*COMMAND, "evaluate", "gone", "--runs", "many"],
    "diagnose, no run": [*COMMAND, "diagnose", "gone"],
    "export, no run": [*COMMAND, "export", "gone", "--output", "model"],
    "prepare, no rows": [*COMMAND, "prepare", "gone.jsonl", "--output", "rows.parquet"],
    "plan": [*COMMAND, "plan", "qwen3-8b.math-cot.pmi"],
    "compare, no run": [*COMMAND, "compare", "gone", "gone"],
    "report, no run": [*COMMAND, "report", "gone"],
}


def seconds_of(words: Sequence[str], folder: Path) -> float:
    """The seconds from a process's start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - began


def measure(rounds: int) -> dict[str, float]:
    """The fewest seconds of each answer."""
    best = dict.fromkeys(ANSWERS, float("inf"))
    with TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, words in ANSWERS.items():
                best[name] = min(best[name], seconds_of(words, Path(folder)))
    return best


def rows_of(best: Mapping[str, float]) -> list[dict[str, Any]]:
    rows = []
    for name, seconds in best.items():
        ratio = seconds / best[FLOOR]
        rows.append(
            {
                "answer": name,
                "seconds": round(seconds, 2),
                "ratio to import torch": round(ratio, 2),
                "within": "yes" if ratio <= ALLOWED else "no",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once each, to see that all answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    arguments = parser.parse_args()
    rows = rows_of(measure(1 if arguments.quick else arguments.rounds))
    title = f"Seconds to an answer; within {ALLOWED:g} times `import torch`"
    publish("startup", arguments.output, {title: rows}, "cpu")
    bars(arguments.output / "startup.png", rows, "answer", ["ratio to import torch"])


if __name__ == "__main__":
    main()
