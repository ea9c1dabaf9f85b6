"""Runs that tests start in processes of their own, and what two runs are compared by."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from purified_opsd.settings.build import to_yaml
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.training.checkpoint import checkpoint_folder, list_checkpoints
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.metrics import MEASURED

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [
    sys.executable,
    "-m",
    "accelerate.commands.accelerate_cli",
    "launch",
    "--num_processes",
    "2",
]
COMMAND = ["-m", "purified_opsd.cli"]


def launch(launcher: list, words: list, folder: Path = Path()) -> subprocess.Popen:
    """Starts a launcher with one thread a process."""
    return subprocess.Popen(
        [*launcher, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_process(config: TrainingConfig, steps: int) -> subprocess.Popen:
    """Starts `purified-opsd train` on a run of that many steps."""
    file = config.output_dir.parent / "run.yaml"
    file.write_text(to_yaml(replace(config, steps=steps)))
    return launch([sys.executable, *COMMAND], ["train", file])


def checkpoint_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.rglob("*.safetensors"))}


def metrics(folder: Path) -> list[dict]:
    """The metrics of a run without those that depend on the machine."""
    return [
        {name: value for name, value in row.items() if name not in MEASURED}
        for row in RunReader(folder).metrics()
    ]


def rollouts(folder: Path) -> list[str]:
    return [file.read_text() for file in sorted((folder / "rollouts").glob("*.jsonl"))]


def assert_same_run(a: Path, b: Path) -> None:
    assert metrics(a) == metrics(b)
    assert rollouts(a) == rollouts(b)
    last = list_checkpoints(a)[-1]
    checkpoints = [checkpoint_bytes(checkpoint_folder(folder, last)) for folder in (a, b)]
    assert checkpoints[0] == checkpoints[1]
