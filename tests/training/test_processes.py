"""Two processes take the same steps as one: the same questions, seeds and completions, one gradient, one run directory."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from purified_opsd.config import to_yaml
from purified_opsd.reporting.records import RunReader
from purified_opsd.training import checkpoint_folder
from purified_opsd.training.start import start_run


def launch(words: list, processes: int) -> subprocess.CompletedProcess:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [*launcher, "-m", "purified_opsd.cli", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)


def test_two_processes_are_one_run(tiny_run, tmp_path):
    start_run(tiny_run, to_yaml(tiny_run))
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(tiny_run))
    done = launch(["train", file, "--output-dir", tmp_path / "two"], processes=2)
    assert done.returncode == 0, done.stderr

    one, two = RunReader(tiny_run.output_dir), RunReader(tmp_path / "two")
    for alone, together in zip(one.metrics(), two.metrics(), strict=True):
        for name in ("loss", "divergence", "grad_norm", "completion_length"):
            assert together[name] == pytest.approx(alone[name], rel=1e-4), name
    for step in range(1, 5):
        pairs = list(zip(one.rollouts(step), two.rollouts(step), strict=True))
        assert [(a["place"], a["id"], a["seed"]) for a, _ in pairs] == [(b["place"], b["id"], b["seed"]) for _, b in pairs]
        assert [a["completion_ids"] for a, _ in pairs] == [b["completion_ids"] for _, b in pairs]
    adapters = [
        load_file(checkpoint_folder(folder, 4) / "adapter" / "adapter_model.safetensors")
        for folder in (tiny_run.output_dir, tmp_path / "two")
    ]
    for name, tensor in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], tensor, rtol=1e-2, atol=1e-4)


def test_more_processes_than_questions_are_refused(tiny_run, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(tiny_run))
    done = launch(["train", file, "--batch-size", 1], processes=2)
    assert done.returncode != 0
    assert "2 processes cannot share a batch_size of 1" in done.stderr
    assert not tiny_run.output_dir.exists()
