"""Two processes take the same steps as one: the same questions, seeds and completions, one gradient, one run directory."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from purified_opsd.config import to_yaml
from purified_opsd.evaluation import SamplingChoice
from purified_opsd.reporting.records import RunReader
from purified_opsd.training import checkpoint_folder
from purified_opsd.training.start import start_run
from purified_opsd.training.watching import Evaluation


def launch(words: list, processes: int) -> subprocess.CompletedProcess:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [*launcher, "-m", "purified_opsd.cli", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)


def test_two_processes_are_one_run(tiny_run, problems, tmp_path):
    sampling = SamplingChoice(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=10, rows=2)
    watched = Evaluation(every=2, benchmarks=(str(problems),), runs=2, limit=5, sampling=sampling)
    tiny_run = replace(tiny_run, evaluation=watched)
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
    for candidate in ("base", "step-000002", "step-000004"):
        alone, together = (folder / f"evaluation/problems/{candidate}/samples.jsonl" for folder in (one.folder, two.folder))
        assert sorted(together.read_text().splitlines()) == sorted(alone.read_text().splitlines())
    assert [row["step"] for row in two.evaluations()] == [0, 2, 4]
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
