"""The simulated step against measured ones, on one machine: rates fitted to some settings of the
miniature, others predicted.

The simulation of docs/scaling.md knows a step by four rates: a decoding step and each row in it, a
scored completion and each token of it.  They are fitted to the median steps of two settings; the
predicted ones are run as well, and their median steps compared.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from purified_opsd.planning.simulation import Cluster, Rates, simulate
from purified_opsd.recipes import find_recipe
from purified_opsd.settings import to_yaml
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.training.run import start_run

from .tables import publish


@dataclass(frozen=True)
class Setting:
    """A batch of completions cut off at so many tokens."""

    batch: int
    longest: int


FITTED = (Setting(8, 160), Setting(16, 40))
"""Unlike in completions, in tokens of one and in tokens of a step, or the rates would not be told
apart; the first shows how long completions get.
"""
PREDICTED = (Setting(32, 160), Setting(16, 80), Setting(48, 120))


class Measured(NamedTuple):
    """Steps of a run: tokens of each completion, and seconds."""

    lengths: list[list[int]]
    rollout: list[float]
    training: list[float]
    optimizer: list[float]


def measure(setting: Setting, steps: int) -> Measured:
    """A run of the miniature, its first step left out: it is slower by what is done once."""
    run = find_recipe("miniature.pmi")
    with TemporaryDirectory() as folder:
        run = replace(
            run,
            output_dir=Path(folder) / "run",
            batch_size=setting.batch,
            steps=steps + 1,
            checkpoint_every=steps + 1,
            sampling=replace(run.sampling, max_new_tokens=setting.longest),
        )
        start_run(run, to_yaml(run))
        reader = RunReader(run.output_dir)
        rows = reader.metrics()[1:]
        lengths = [[len(r.completion_ids) for r in reader.rollouts(row["step"])] for row in rows]
    seconds = [row["seconds"] for row in rows]
    training = [part["frozen"] + part["student"] for part in seconds]
    return Measured(
        lengths,
        [part["rollout"] for part in seconds],
        training,
        [part["optimizer"] for part in seconds],
    )


def together(runs: Sequence[Measured]) -> Measured:
    """Their steps, one run's after another's."""
    return Measured(*(list(chain(*parts)) for parts in zip(*runs, strict=True)))


def fit(runs: Sequence[Measured]) -> Rates:
    """Rollout seconds are linear in decoding steps and tokens, training's in completions and
    tokens.

    Fitted to each run's median step, since another program's turn on the processor makes a step
    much longer and never shorter.
    """
    longest = [median(max(step) for step in run.lengths) for run in runs]
    completions = [len(run.lengths[0]) for run in runs]
    tokens = [median(sum(step) for step in run.lengths) for run in runs]
    step_s, row_s = _solve(longest, tokens, [median(run.rollout) for run in runs])
    each_s, token_s = _solve(completions, tokens, [median(run.training) for run in runs])
    return Rates(
        prefill=0.0,
        decode=lambda rows: step_s + row_s * rows,
        train=lambda length: each_s + token_s * length,
        adapter=0.0,
        gradient=median(s for run in runs for s in run.optimizer),
        checkpoint=0.0,
    )


def _solve(
    first: Sequence[float], second: Sequence[float], seconds: Sequence[float]
) -> tuple[float, float]:
    found, *_ = np.linalg.lstsq(np.array([first, second], dtype=float).T, np.array(seconds))
    return float(found[0]), float(found[1])


def predict(setting: Setting, rates: Rates, seen: Sequence[int]) -> dict[str, float]:
    """Mean seconds by part of steps whose lengths are drawn from those seen and cut off."""
    draw = random.Random(0)
    steps = [
        [min(draw.choice(seen), setting.longest) for _ in range(setting.batch)] for _ in range(200)
    ]
    return simulate(Cluster(1, 1, setting.batch, 1), rates, steps).seconds


def row(
    setting: Setting, measured: Measured, predicted: dict[str, float], what: str
) -> dict[str, Any]:
    of_parts = {
        "rollout": measured.rollout,
        "training": measured.training,
        "gradient": measured.optimizer,
    }
    found: dict[str, Any] = {
        "setting": f"batch {setting.batch}, up to {setting.longest} tokens",
        "rates": what,
    }
    for part in ("rollout", "training"):
        found |= _compared(part, median(of_parts[part]), predicted[part])
    return found | _compared("step", sum(map(median, of_parts.values())), sum(predicted.values()))


def _compared(part: str, measured: float, predicted: float) -> dict[str, Any]:
    off = f"{predicted / measured - 1:+.0%}"
    return {
        f"{part}, s": round(measured, 3),
        f"{part}, simulated": round(predicted, 3),
        f"{part} off": off,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two steps each, to see that everything runs"
    )
    parser.add_argument("--steps", type=int, default=5, help="of each setting in each round")
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="the settings take turns, so a slow minute is no one setting's",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    words = parser.parse_args()
    steps, rounds = (2, 1) if words.quick else (words.steps, words.rounds)
    settings = [*FITTED, *PREDICTED[: 1 if words.quick else None]]
    found = [{setting: measure(setting, steps) for setting in settings} for _ in range(rounds)]
    runs = {setting: together([of_round[setting] for of_round in found]) for setting in settings}
    fitted = [runs[setting] for setting in FITTED]
    rates, seen = fit(fitted), [length for step in fitted[0].lengths for length in step]
    kinds = {setting: "fitted" if setting in FITTED else "predicted" for setting in settings}
    rows = [
        row(setting, runs[setting], predict(setting, rates, seen), kinds[setting])
        for setting in settings
    ]
    publish(
        "simulation",
        words.output,
        {f"The miniature, median of {rounds * steps} steps": rows},
        "cpu",
    )


if __name__ == "__main__":
    main()
