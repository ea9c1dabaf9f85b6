"""Trackers are company: none can stop a run, and each failure is said once; one that is not
installed is refused before anything is loaded.
"""

import sys

import pytest
import yaml
from accelerate import tracking

from purified_opsd.training import run
from purified_opsd.training.trackers import Trackers


class Recorder(tracking.GeneralTracker):
    """Writes down what it is told, and fails where it is told to."""

    def __init__(self, name, fails=()):
        super().__init__(_blank=True)
        self.name, self.fails, self.calls = name, fails, []

    def start(self):
        self._call("start")

    def store_init_configuration(self, values):
        self._call(("config", values))

    def log(self, values, step):
        self._call(("log", values, step))

    def finish(self):
        self._call("finish")

    def _call(self, what):
        self.calls.append(what)
        if (what if isinstance(what, str) else what[0]) in self.fails:
            raise RuntimeError("no network")


@pytest.fixture
def made(monkeypatch):
    made = {}

    def register(name, fails=()):
        def build(run_name):
            made[name] = Recorder(run_name, fails)
            return made[name]

        build.requires_logging_directory = False
        monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, name, build)

    register("wandb")
    register("trackio", fails=("log",))
    register("tensorboard", fails=("start",))
    return made


def test_numbers_reach_those_that_work_and_failures_are_said_once(made, tmp_path, caplog):
    trackers = Trackers(
        ("wandb", "trackio", "tensorboard"), tmp_path / "my_run", {"target": {"beta": 1.0}}
    )
    for step in (1, 2):
        trackers.log({"step": step, "seconds": {"rollout": 0.5}})
    trackers.close()
    assert made["wandb"].name == "my_run"
    assert made["wandb"].calls == [
        "start",
        ("config", {"target/beta": 1.0}),
        ("log", {"step": 1, "seconds/rollout": 0.5}, 1),
        ("log", {"step": 2, "seconds/rollout": 0.5}, 2),
        "finish",
    ]
    assert (
        len([call for call in made["trackio"].calls if call[0] == "log"]) == 1
    )  # dropped after its first failure
    assert (
        caplog.text.count("The tracker trackio is left out from here on: RuntimeError: no network")
        == 1
    )
    assert caplog.text.count("The tracker tensorboard is left out") == 1


@pytest.mark.parametrize("name", ["wandb", "trackio", "tensorboard"])
def test_one_that_is_not_installed_is_refused_before_anything_is_loaded(
    command, settings, tmp_path, monkeypatch, name
):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    monkeypatch.setattr(run, "setup_evaluation", lambda config: pytest.fail("too late"))
    code, _, errors = command("train", settings, "--trackers", name)
    assert code == 2
    assert f"The tracker {name} is asked for and not installed" in errors
    assert f"`pip install {name}`" in errors
    assert "`pip install -e '.[trackers]'` in the folder of this project's source" in errors
    assert not (tmp_path / "runs").exists()


def test_one_added_at_a_resume_is_refused_too(command, settings, monkeypatch, tmp_path):
    assert command("train", settings, "--steps", "1")[0] == 0
    monkeypatch.setitem(sys.modules, "wandb", None)
    words = ("resume", "runs/my_run", "--steps", "2", "--trackers", "wandb")
    code, _, errors = command(*words)
    assert code == 2
    assert "The tracker wandb is asked for and not installed" in errors
    config = yaml.safe_load((tmp_path / "runs/my_run/config.yaml").read_text())
    assert config["trackers"] == []
    assert config["steps"] == 1
