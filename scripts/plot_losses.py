"""Loss by step of one or more runs, side by side.

pip install matplotlib
python scripts/plot_losses.py runs/smollm2-pmi runs/smollm2-standard --output losses.png
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

from purified_opsd.storage.run_dir import RunReader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()

    figure, (loss, norm) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for run in arguments.runs:
        rows = RunReader(run).metrics()
        steps = [row["step"] for row in rows]
        loss.plot(steps, [row["loss"] for row in rows], marker=".", label=run.name)
        norm.plot(steps, [row["grad_norm"] for row in rows], marker=".", label=run.name)
    loss.set(xlabel="step", ylabel="loss (nats)", ylim=(0, None))
    norm.set(xlabel="step", ylabel="gradient norm", ylim=(0, None))
    loss.legend(frameon=False)
    figure.savefig(arguments.output, dpi=120)


if __name__ == "__main__":
    main()
