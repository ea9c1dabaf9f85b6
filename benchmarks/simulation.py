"""The simulated step against measured ones, on one machine.

Rates are fitted to some settings of the miniature, and others are predicted. The simulation of
docs/scaling.md knows a step by four rates: a decoding step and each row in it, a scored completion
and each token of it.  They are fitted to the median steps of two settings; the predicted ones are
run as well, and their median steps compared.
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
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.training.run import start_run

from .tables import publish


@dataclass(frozen=True)
class Setting:
    """A batch of completions cut off at so many tokens."""

    batch: int
    longest: int


FITTED = (Setting(8, 160), Setting(16, 40))
"""Unlike in completions, in tokens of one and in tokens of a step, so that rates can be told apart.

The first one shows how long completions get.
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
    config = find_recipe("miniature.pmi")
    with TemporaryDirectory() as folder:
        config = replace(
            config,
            output_dir=Path(folder) / "run",
            batch_size=setting.batch,
            steps=steps + 1,
            checkpoint_every=steps + 1,
            sampling=replace(config.sampling, max_new_tokens=setting.longest),
        )
        start_run(config)
        reader = RunReader(config.output_dir)
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


def concatenated(runs: Sequence[Measured]) -> Measured:
    """The steps of all runs, one run's after another's."""
    return Measured(
        lengths=list(chain(*(run.lengths for run in runs))),
        rollout=list(chain(*(run.rollout for run in runs))),
        training=list(chain(*(run.training for run in runs))),
        optimizer=list(chain(*(run.optimizer for run in runs))),
    )


def fit(runs: Sequence[Measured]) -> Rates:
    """Rollout seconds are linear in steps and tokens, training's in completions and tokens.

    They are fitted to each run's median step, since another program's turn on the processor makes a
    step much longer and never shorter.
    """
    longest = [median(max(step) for step in run.lengths) for run in runs]
    completions = [len(run.lengths[0]) for run in runs]
    tokens = [median(sum(step) for step in run.lengths) for run in runs]
    step_s, row_s = _solve(longest, tokens, [median(run.rollout) for run in runs])
    completion_s, token_s = _solve(completions, tokens, [median(run.training) for run in runs])
    return Rates(
        prefill=0.0,
        decode=lambda rows: step_s + row_s * rows,
        train=lambda length: completion_s + token_s * length,
        adapter=0.0,
        gradient=median(s for run in runs for s in run.optimizer),
        checkpoint=0.0,
    )


def _solve(
    first: Sequence[float], second: Sequence[float], seconds: Sequence[float]
) -> tuple[float, float]:
    """The two rates: seconds are the sum of both, each times its numbers."""
    factors = np.array([first, second], dtype=float).T
    rates, *_ = np.linalg.lstsq(factors, np.array(seconds))
    return float(rates[0]), float(rates[1])


def predict(setting: Setting, rates: Rates, seen: Sequence[int]) -> dict[str, float]:
    """Mean seconds by part of steps whose lengths are drawn from those seen and cut off."""
    draw = random.Random(0)

    def length() -> int:
        return min(draw.choice(seen), setting.longest)

    steps = [[length() for _ in range(setting.batch)] for _ in range(200)]
    return simulate(Cluster(1, 1, setting.batch, 1), rates, steps).seconds


def row(
    setting: Setting, measured: Measured, predicted: dict[str, float], what: str
) -> dict[str, Any]:
    rollout, training = median(measured.rollout), median(measured.training)
    step = rollout + training + median(measured.optimizer)
    return {
        "setting": f"batch {setting.batch}, up to {setting.longest} tokens",
        "rates": what,
        **_compared("rollout", rollout, predicted["rollout"]),
        **_compared("training", training, predicted["training"]),
        **_compared("step", step, sum(predicted.values())),
    }


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
    arguments = parser.parse_args()
    steps, rounds = (2, 1) if arguments.quick else (arguments.steps, arguments.rounds)
    settings = [*FITTED, *PREDICTED[: 1 if arguments.quick else None]]
    # Settings take turns, so a slow minute is no one setting's.
    measured: dict[Setting, list[Measured]] = {setting: [] for setting in settings}
    for _ in range(rounds):
        for setting in settings:
            measured[setting].append(measure(setting, steps))
    runs = {setting: concatenated(of_setting) for setting, of_setting in measured.items()}
    fitted = [runs[setting] for setting in FITTED]
    rates = fit(fitted)
    seen = list(chain(*fitted[0].lengths))
    rows = []
    for setting, run in runs.items():
        kind = "fitted" if setting in FITTED else "predicted"
        rows.append(row(setting, run, predict(setting, rates, seen), kind))
    title = f"The miniature, median of {rounds * steps} steps"
    publish("simulation", arguments.output, {title: rows}, "cpu")


if __name__ == "__main__":
    main()
