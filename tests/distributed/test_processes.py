"""Several processes take the same steps as one, whether each holds the whole base or a share, and
they end together.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore
from transformers import AutoConfig, AutoModelForCausalLM

from purified_opsd.evaluation.config import EvaluationConfig, SamplingOverrides
from purified_opsd.settings.build import to_yaml
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.training.checkpoint import checkpoint_folder, list_checkpoints
from purified_opsd.training.run import resume_run, start_run
from purified_opsd.training.setup import setup_training

from ..runs import ACCELERATE, COMMAND, TORCHRUN, launch
from .together import gradient, held

DEADLINE_S = 180


@pytest.fixture
def pair(tiny_run, problems, tmp_path):
    """The folder in which two processes have done all that is in together.py, beside a run that one
    process began.
    """
    sampling = SamplingOverrides(
        temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=10, batch_size=2
    )
    watched = EvaluationConfig(
        every=2, benchmarks=(str(problems),), runs=2, limit=5, sampling=sampling
    )
    run = replace(tiny_run, batch_size=5, evaluation=watched)
    began = replace(run, steps=2, output_dir=tmp_path / "began_with_one")
    start_run(began)
    (tmp_path / "run.yaml").write_text(to_yaml(run))
    save_tied(Path(run.model.path), tmp_path / "tied")
    process = launch(TORCHRUN, [Path(__file__).with_name("together.py"), tmp_path])
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    return run, tmp_path


def save_tied(model: Path, folder: Path) -> None:
    """A model of the same sizes with one matrix for embedding and head."""
    shutil.copytree(model, folder)
    config = AutoConfig.from_pretrained(model)
    config.tie_word_embeddings = True
    tied = AutoModelForCausalLM.from_config(config)
    tied.get_output_embeddings().weight.data *= 20
    tied.save_pretrained(folder)


def assert_same_gradient(found: dict, wanted: dict) -> None:
    """To the rounding of float32 sums."""
    assert found.keys() == wanted.keys()
    off = sum((found[name] - wanted[name]).square().sum() for name in wanted).sqrt()
    assert off < 1e-5 * sum(wanted[name].square().sum() for name in wanted).sqrt()


def assert_same_run(one: Path, two: Path) -> None:
    first, second = RunReader(one), RunReader(two)
    for alone, together in zip(first.metrics(), second.metrics(), strict=True):
        for name in ("loss", "divergence", "grad_norm", "completion_length"):
            assert together[name] == pytest.approx(alone[name], rel=1e-4), name
        pairs = list(
            zip(first.rollouts(alone["step"]), second.rollouts(alone["step"]), strict=True)
        )
        for name in ("index", "id", "seed", "completion_ids"):
            assert [a.to_json()[name] for a, _ in pairs] == [b.to_json()[name] for _, b in pairs]
    for candidate in ("base", "step-000002", "step-000004"):
        samples = [
            (folder / f"evaluation/problems/{candidate}/samples.jsonl").read_text()
            for folder in (one, two)
        ]
        assert sorted(samples[0].splitlines()) == sorted(samples[1].splitlines())
    assert (
        [row["step"] for row in first.evaluations()]
        == [row["step"] for row in second.evaluations()]
        == [0, 2, 4]
    )
    assert list_checkpoints(one) == list_checkpoints(two)
    folders = [checkpoint_folder(folder, list_checkpoints(folder)[-1]) for folder in (one, two)]
    files = [
        sorted(str(file.relative_to(folder)) for file in folder.rglob("*")) for folder in folders
    ]
    assert files[0] == files[1]
    adapters = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in folders]
    for name, tensor in adapters[
        0
    ].items():  # Adam divides by a gradient's size, so its rounding is seen in full
        torch.testing.assert_close(adapters[1][name], tensor, rtol=1e-2, atol=1e-4)


def test_two_processes_are_one(pair):
    run, folder = pair
    unclipped = replace(run, optimizer=replace(run.optimizer, max_grad_norm=1e12))
    alone, tied = (
        setup_training(unclipped),
        setup_training(replace(unclipped, model=replace(run.model, path=str(folder / "tied")))),
    )
    wanted = gradient(alone)
    for name in ("replicated", "fsdp2"):
        assert_same_gradient(load_file(folder / f"{name}.safetensors"), wanted)
    assert_same_gradient(load_file(folder / "tied.safetensors"), gradient(tied))

    shares, refusal = (folder / "said.txt").read_text().split("\n")
    whole, share, tied_share = map(int, shares.split())
    assert whole == held(alone)
    assert share == pytest.approx(whole / 2, rel=0.01)
    matrix = tied.policy.base.get_output_embeddings().weight.numel()  # whole in each process
    assert tied_share == pytest.approx(matrix + (held(tied) - matrix) / 2, rel=0.01)
    assert refusal.startswith("2 processes cannot share a batch_size of 1")

    unbroken = replace(run, output_dir=folder / "unbroken")
    start_run(unbroken)
    resume_run(run, folder / "began_with_two")
    assert_same_run(unbroken.output_dir, folder / "began_with_two")
    assert_same_run(unbroken.output_dir, folder / "began_with_one")


def rank(process: subprocess.Popen, number: int) -> psutil.Process:
    below = psutil.Process(process.pid).children(recursive=True)
    return next(child for child in below if child.environ().get("RANK") == str(number))


def test_a_killed_process_ends_the_job_and_is_named(tiny_run, tmp_path):
    (tmp_path / "run.yaml").write_text(to_yaml(replace(tiny_run, steps=100_000)))
    process = launch(TORCHRUN, [*COMMAND, "train", tmp_path / "run.yaml", "--sharding", "fsdp2"])
    deadline = time.monotonic() + DEADLINE_S
    while not (tiny_run.output_dir / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    rank(process, 1).kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.count("purified-opsd: ") == 1
    assert "purified-opsd: process 1 of 2 (ranks count from 0) is not heard of: killed" in errors
    assert "with `purified-opsd resume RUN`" in errors
    assert "exitcode  : 4" in errors


def test_what_stops_one_process_is_said_once_and_stops_all(tiny_run, tmp_path):
    """Only the first process writes checkpoints, so only it meets a file in their place."""
    start_run(tiny_run)
    (tiny_run.output_dir / "checkpoints").rename(tmp_path / "gone")
    (tiny_run.output_dir / "checkpoints").touch()
    process = launch([*ACCELERATE, "--multi_gpu"], [*COMMAND, "resume", tiny_run.output_dir])
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode != 0
    assert errors.count("purified-opsd: ") == 1
    assert "[process 0 of 2] purified-opsd: [Errno 20] Not a directory" in errors
    assert errors.count("exitcode  : 4") == 2


def test_a_launcher_that_starts_fewer_processes_than_it_was_asked_for_is_found_out(
    tiny_run, tmp_path
):
    (tmp_path / "run.yaml").write_text(to_yaml(tiny_run))
    process = launch([*ACCELERATE, "--cpu"], [*COMMAND, "train", tmp_path / "run.yaml"])
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode != 0
    assert "purified-opsd: several processes were asked for, and this one found 1" in errors
    assert "torchrun --nproc-per-node N" in errors
    assert not tiny_run.output_dir.exists()


WATCHED = (
    "import time; from purified_opsd.distributed.heartbeat import *; "
    "HeartbeatWatch(Heartbeats(), {}); time.sleep(60)"
)


def watched(port: int, patience: str) -> subprocess.Popen:
    """Process 0 of 2, which does nothing but watch the other."""
    environment = os.environ | {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
    }
    return subprocess.Popen(
        [sys.executable, "-c", WATCHED.format(patience)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_that_hangs_is_given_up_whatever_the_others_wait_for():
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    process = watched(store.port, "lost_s=1.5")
    for _ in range(3):  # the test is process 1, which lives, and then stands still
        store.add("purified-opsd/0/alive/1", 1)
        time.sleep(1)
    _, errors = process.communicate(timeout=50)
    assert process.returncode == 4
    assert errors.startswith(
        "purified-opsd: process 1 of 2 (ranks count from 0) is not heard of: killed"
    )


def test_a_process_that_never_begins_is_given_up_later():
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    process = watched(store.port, "lost_s=0.1, start_s=3")
    _, errors = process.communicate(timeout=50)
    assert process.returncode == 4
    assert errors.startswith(
        "purified-opsd: process 1 of 2 (ranks count from 0) is not heard of: killed"
    )
    assert store.add("purified-opsd/0/alive/0", 0) >= 3  # a beat a second
