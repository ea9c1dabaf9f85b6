"""Processes that cannot go on together end together, soon, and one of them says why."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml

from purified_opsd.config import to_yaml
from purified_opsd.training import checkpoint_folder, list_checkpoints
from purified_opsd.training.start import start_run

from .test_processes import TORCHRUN, TRAINER, launch

SOON_S = 60
"""From the start of the launcher; a process that waits for another in vain does so for half an hour."""


def outcome(*launchers: subprocess.Popen) -> list[str]:
    """What each has said when all have ended, which must be soon and with an error."""
    deadline = time.monotonic() + SOON_S
    try:
        said = [launcher.communicate(timeout=max(0.1, deadline - time.monotonic()))[1] for launcher in launchers]
    finally:
        for launcher in launchers:
            end_all(launcher)
    assert all(launcher.returncode for launcher in launchers)
    return said


def end_all(launcher: subprocess.Popen) -> None:
    """Kills what still runs of it."""
    if launcher.poll() is None:
        for process in [*psutil.Process(launcher.pid).children(recursive=True), launcher]:
            process.kill()


def two_nodes(*words: list, folders: tuple[Path, ...] = (Path(), Path())) -> list[str]:
    """What two machines of one process each say, started with words of their own in folders of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", port]
    return outcome(
        *(
            launch([*TORCHRUN[:3], *map(str, place), "--node-rank", str(node)], [*TRAINER, *own], folder)
            for node, (own, folder) in enumerate(zip(words, folders, strict=True))
        )
    )


def assert_said_once(said: list[str], reason: str, code: int) -> None:
    together = "".join(said)
    assert together.count("purified-opsd: ") == 1, together
    assert f"purified-opsd: {reason}" in together
    assert together.count(f"exitcode  : {code}") == 2


@pytest.fixture
def recipe(tiny_run, tmp_path):
    (tmp_path / "run.yaml").write_text(to_yaml(tiny_run))
    return tmp_path / "run.yaml"


def test_other_settings_are_refused(tiny_run, recipe):
    said = two_nodes(["train", recipe], ["train", recipe, "--seed", "1"])
    assert_said_once(said, "process 1 of 2 (ranks count from 0) has another setting seed than process 0: 1, and not 0.", 2)
    assert not tiny_run.output_dir.exists()


def test_other_data_and_an_older_copy_of_the_run_are_refused(tiny_run, problems, tmp_path):
    """Each machine has a copy of everything, under the same relative paths."""
    start_run(tiny_run, to_yaml(tiny_run))
    nodes = (tmp_path / "one", tmp_path / "other")
    for node in nodes:
        shutil.copytree(tiny_run.output_dir, node / "run")
        shutil.copy(problems, node / "problems.jsonl")
        settings = yaml.safe_load((node / "run" / "config.yaml").read_text())
        settings["data"]["path"] = "problems.jsonl"
        (node / "run" / "config.yaml").write_text(yaml.safe_dump(settings))
    shutil.rmtree(checkpoint_folder(nodes[1] / "run", 4))
    words = ["resume", "run", "--steps", "6"]
    said = two_nodes(words, words, folders=nodes)
    assert_said_once(said, "process 1 of 2 (ranks count from 0) has another newest good checkpoint than process 0: step 2 ", 2)
    (nodes[1] / "problems.jsonl").write_text(problems.read_text().replace("What is", "How much is"))
    assert_said_once(
        two_nodes(words, words, folders=nodes), "process 1 of 2 (ranks count from 0) has another training set than process 0: ", 2
    )
    assert list_checkpoints(nodes[0] / "run") == [2, 4]
