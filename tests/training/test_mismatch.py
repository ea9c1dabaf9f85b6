"""The limits of the mismatch: completions that are not the student's stop a run before the
optimizer takes the step.
"""

from dataclasses import replace

import pytest

from purified_opsd.errors import ModelError, OffPolicyError, ServersLost, Stopped
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.settings.build import to_yaml
from purified_opsd.storage.run_dir import RunReader, RunWriter
from purified_opsd.training.checkpoint import list_checkpoints
from purified_opsd.training.mismatch import LogProbMismatch, MismatchLimits
from purified_opsd.training.optimizer import AdamW
from purified_opsd.training.periodic_eval import PeriodicEvaluator
from purified_opsd.training.run import resume_run
from purified_opsd.training.setup import setup_training
from purified_opsd.training.trackers import Trackers
from purified_opsd.training.train import train

from ..runs import checkpoint_bytes


def test_between_the_limits_is_a_warning(caplog):
    MismatchLimits(warn=0.1, stop=0.4).check(LogProbMismatch(0.1, 1.0, 1.0), 3)
    assert caplog.text == ""
    MismatchLimits(warn=0.1, stop=0.4).check(LogProbMismatch(0.2, 0.75, 0.5), 3)
    assert (
        "In step 3 the sampler's log-probs of its own tokens are 0.2 nats from the trainer's in "
        "the mean" in caplog.text
    )
    assert (
        "(99th percentile 0.75; above 0.1 for 50% of the tokens): more than alarm.warn = 0.1"
        in caplog.text
    )


@pytest.mark.parametrize("mean", [0.41, float("inf"), float("nan")])
def test_above_both_is_an_end(mean):
    with pytest.raises(
        OffPolicyError,
        match="more than alarm.stop = 0.4, so the step was not taken. .*stale "
        "adapter.*dtype.*template",
    ):
        MismatchLimits(warn=0.1, stop=0.4).check(LogProbMismatch(mean, 1.0, 1.0), 3)


def test_impossible_limits_are_refused():
    with pytest.raises(ValueError, match="alarm needs 0 < warn <= stop, got warn=0.5, stop=0.4"):
        MismatchLimits(warn=0.5, stop=0.4)


class Previous(HFSampler):
    """Serves the adapter as it was one sync before: what vLLM does where an id is used again."""

    now, before = None, None

    def sync(self, step):
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.now, self.before = [p.detach().clone() for p in parameters], self.now

    def generate(self, prompts, seeds):
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        for parameter, old in zip(parameters, self.before or self.now, strict=True):
            parameter.data.copy_(old)
        found = super().generate(prompts, seeds)
        for parameter, new in zip(parameters, self.now, strict=True):
            parameter.data.copy_(new)
        return found


def run_with(run, sampler_of) -> tuple[Stopped, dict[str, bytes]]:
    """How training with such a sampler ends."""
    setup = setup_training(run)
    setup = replace(setup, sampler=sampler_of(setup))
    writer = RunWriter(run.output_dir)
    writer.begin(to_yaml(run), {"fingerprint": setup.examples.fingerprint})
    trackers = Trackers((), run.output_dir, {})
    with pytest.raises(Stopped) as end:
        train(setup, PeriodicEvaluator(setup, None, writer, trackers), writer, trackers, 0)
    return end.value


@pytest.fixture
def fast_run(tiny_run):
    return replace(
        tiny_run,
        optimizer=AdamW(learning_rate=1e-2, max_grad_norm=1e9),
        checkpoint_every=100,
        steps=6,
    )


def test_serving_the_adapter_before_trips_it(fast_run):
    """In step 2 it has the adapter of step 1.  In float32 the true gap is rounding, so the limits
    can be close to it.
    """
    run = replace(fast_run, alarm=MismatchLimits(warn=1e-4, stop=1e-3))
    stopped = run_with(run, lambda setup: Previous(setup.policy.model, run.sampling))
    assert stopped.exit_code == 4
    assert (
        "Stopped after step 1, which is saved. In step 2 the sampler's log-probs of its own tokens"
        in str(stopped)
    )
    rows = RunReader(run.output_dir).metrics()
    assert [row["step"] for row in rows] == [1]
    assert rows[0]["log_prob_gap_mean"] < 1e-5
    assert list_checkpoints(run.output_dir) == [1]


class Lost(HFSampler):
    """Loses its servers before the third step."""

    error: Exception = ServersLost("Nobody answers.")

    def sync(self, step):
        if step == 2:
            raise self.error


def test_lost_servers_save_the_run_and_it_goes_on_as_if_nothing_had_been(fast_run, tmp_path):
    stopped = run_with(fast_run, lambda setup: Lost(setup.policy.model, fast_run.sampling))
    assert (stopped.exit_code, str(stopped)) == (
        75,
        "Stopped after step 2, which is saved. Nobody answers.",
    )
    assert list_checkpoints(fast_run.output_dir) == [2]
    resume_run(fast_run, fast_run.output_dir)
    whole = replace(fast_run, output_dir=tmp_path / "whole")
    setup = setup_training(whole)
    writer = RunWriter(whole.output_dir)
    writer.begin(to_yaml(whole), {})
    trackers = Trackers((), whole.output_dir, {})
    train(setup, PeriodicEvaluator(setup, None, writer, trackers), writer, trackers, 0)
    last = "checkpoints/step-000006"
    assert checkpoint_bytes(fast_run.output_dir / last) == checkpoint_bytes(whole.output_dir / last)


def test_before_the_first_step_there_is_nothing_to_save(fast_run):
    class Wrong(Lost):
        error = ModelError("It is another base.")

        def sync(self, step):
            raise self.error

    stopped = run_with(fast_run, lambda setup: Wrong(setup.policy.model, fast_run.sampling))
    assert (stopped.exit_code, str(stopped)) == (
        4,
        "Stopped before the first step. It is another base.",
    )
    assert list_checkpoints(fast_run.output_dir) == []
