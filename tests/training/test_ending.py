"""Processes that cannot go on together end together, soon, and one of them says why."""

import shutil
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml

from purified_opsd.evaluation.config import EvaluationConfig, SamplingOverrides
from purified_opsd.settings.build import to_yaml
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.training.checkpoint import checkpoint_folder, list_checkpoints
from purified_opsd.training.run import start_run

from ..runs import COMMAND, TORCHRUN, launch

SOON_S = 60
"""From the start of the launcher; a process that waits for another in vain does so for half an
hour.
"""
BROKEN = Path(__file__).with_name("broken.py")


def outcome(*launchers: subprocess.Popen) -> list[str]:
    """What each has said when all have ended, which must be soon and with an error."""
    deadline = time.monotonic() + SOON_S
    try:
        said = [
            launcher.communicate(timeout=max(0.1, deadline - time.monotonic()))[1]
            for launcher in launchers
        ]
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
    """What two machines of one process each say, started with words of their own in folders of
    their own.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = [
        "--nnodes",
        "2",
        "--nproc-per-node",
        "1",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        port,
    ]
    return outcome(
        *(
            launch(
                [*TORCHRUN[:3], *map(str, place), "--node-rank", str(node)],
                [*COMMAND, *own],
                folder,
            )
            for node, (own, folder) in enumerate(zip(words, folders, strict=True))
        )
    )


def assert_said_once(said: list[str], reason: str, code: int) -> None:
    together = "".join(said)
    assert together.count("purified-opsd: ") == 1, together
    assert f"purified-opsd: {reason}" in together
    assert all(f"exitcode  : {code}" in one for one in said)


@pytest.fixture
def recipe(tiny_run, tmp_path):
    (tmp_path / "run.yaml").write_text(to_yaml(tiny_run))
    return tmp_path / "run.yaml"


def test_other_settings_are_refused(tiny_run, recipe):
    said = two_nodes(["train", recipe], ["train", recipe, "--seed", "1"])
    assert_said_once(
        said,
        "process 1 of 2 (ranks count from 0) has another setting seed than process 0: 1, and not "
        "0.",
        2,
    )
    assert not tiny_run.output_dir.exists()


def test_other_data_and_an_older_copy_of_the_run_are_refused(tiny_run, problems, tmp_path):
    """Each machine has a copy of everything, under the same relative paths."""
    start_run(tiny_run)
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
    assert_said_once(
        said,
        "process 1 of 2 (ranks count from 0) has another newest good checkpoint than process 0: "
        "step 2 ",
        2,
    )
    (nodes[1] / "problems.jsonl").write_text(problems.read_text().replace("What is", "How much is"))
    assert_said_once(
        two_nodes(words, words, folders=nodes),
        "process 1 of 2 (ranks count from 0) has another training set than process 0: ",
        2,
    )
    assert list_checkpoints(nodes[0] / "run") == [2, 4]


def test_a_machine_whose_settings_are_not_there_ends_the_other(recipe, tmp_path):
    said = two_nodes(["train", recipe], ["train", tmp_path / "gone.yaml"])
    assert_said_once(said, f"The settings file {tmp_path / 'gone.yaml'} cannot be read", 2)


def test_what_breaks_the_main_process_in_an_evaluation_ends_all(tiny_run, problems, recipe):
    sampling = SamplingOverrides(
        temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=10, batch_size=2
    )
    watched = replace(
        tiny_run,
        evaluation=EvaluationConfig(
            every=2, benchmarks=(str(problems),), runs=2, sampling=sampling
        ),
    )
    recipe.write_text(to_yaml(watched))
    said = outcome(launch(TORCHRUN, [BROKEN, 0, "FloatingPointError", 2, "train", recipe]))
    assert_said_once(said, "Broken on purpose.", 1)


def test_a_signal_to_any_process_stops_an_evaluation_after_its_batch(tiny_run, problems, recipe):
    """A scheduler warns the machine that it takes away, which need not be the main process's."""
    sampling = SamplingOverrides(
        temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=10, batch_size=2
    )
    watched = replace(
        tiny_run,
        evaluation=EvaluationConfig(
            every=2, benchmarks=(str(problems),), runs=200, sampling=sampling
        ),
    )
    recipe.write_text(to_yaml(watched))
    launcher = launch(TORCHRUN, [*COMMAND, "train", recipe])
    samples, deadline = (
        tiny_run.output_dir / "evaluation" / problems.stem / "base" / "samples.jsonl",
        time.monotonic() + SOON_S,
    )
    while not samples.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (second,) = (
        p
        for p in psutil.Process(launcher.pid).children(recursive=True)
        if p.environ().get("RANK") == "1"
    )
    second.terminate()
    (said,) = outcome(launcher)
    assert said.count(f"Go on with: purified-opsd resume {tiny_run.output_dir}") == 1
    assert (
        RunReader(tiny_run.output_dir).evaluations()
        == RunReader(tiny_run.output_dir).metrics()
        == []
    )


def test_an_interruption_of_one_process_ends_all(recipe):
    said = outcome(launch(TORCHRUN, [BROKEN, 1, "KeyboardInterrupt", 2, "train", recipe]))
    assert_said_once(said, "Interrupted. A run that had begun goes on", 130)


@pytest.mark.parametrize(
    ("sharding", "error", "code"), [("replicated", "ServersLost", 75), ("fsdp2", "ModelError", 4)]
)
def test_what_one_process_cannot_draw_stops_all_after_the_step_before(
    tiny_run, recipe, sharding, error, code
):
    (said,) = outcome(
        launch(TORCHRUN, [BROKEN, 1, error, 4, "train", recipe, "--sharding", sharding])
    )
    assert said.count("Stopped after step 3, which is saved. Broken on purpose.") == 1
    assert said.count(f"Go on with: purified-opsd resume {tiny_run.output_dir}") == 1
    assert said.count(f"exitcode  : {code}") == 2
    assert list_checkpoints(tiny_run.output_dir) == [2, 3]
    assert len(RunReader(tiny_run.output_dir).metrics()) == 3


@pytest.mark.parametrize("sharding", ["replicated", "fsdp2"])
def test_values_that_diverge_in_one_process_do_so_in_all_and_the_sweep_goes_on(
    recipe, tmp_path, sharding
):
    words = [
        "sweep",
        recipe,
        "--target.clip",
        5,
        10,
        "--steps",
        2,
        "--sharding",
        sharding,
        "--output-dir",
        tmp_path / "sweep",
    ]
    (said,) = outcome(launch(TORCHRUN, [BROKEN, 1, "FloatingPointError", 2, *words]))
    assert said.count("target.clip=5 diverged, and the sweep goes on: Broken on purpose.") == 1
    assert [list_checkpoints(tmp_path / "sweep" / f"target.clip={clip}") for clip in (5, 10)] == [
        [],
        [2],
    ]
    assert (tmp_path / "sweep" / "report.html").exists()


@pytest.mark.parametrize("verb", ["evaluate", "report"])
def test_what_one_process_does_is_refused_to_several(verb):
    """Before their words are read."""
    said = outcome(launch(TORCHRUN, [*COMMAND, verb, "runs/x"]))
    assert_said_once(said, f"{verb} is done by one process, and 2 were started", 2)
