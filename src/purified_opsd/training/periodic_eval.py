"""Evaluation of the student between training steps, without loading anything: on benchmarks, into
the files that `purified-opsd evaluate` goes on with.
"""

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate.utils import gather_object

from purified_opsd.data.prompts import PromptBuilder
from purified_opsd.distributed.data_parallel_sampler import DataParallelSampler
from purified_opsd.errors import Interrupted, RunError, WorkerError
from purified_opsd.evaluation.benchmarks import Benchmark
from purified_opsd.evaluation.compatibility_checks import refuse_duplicate_names
from purified_opsd.evaluation.evaluate import evaluate, forget_other_weights
from purified_opsd.evaluation.graded_benchmarks import load_benchmarks
from purified_opsd.evaluation.progress import Progress, ProgressCallback, progress_bar
from purified_opsd.evaluation.requests import Candidate, EvaluationRequest, completion_requests
from purified_opsd.evaluation.results import Score
from purified_opsd.interrupts import StopRequest
from purified_opsd.policy.model import frozen
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.sampler import Sampler
from purified_opsd.storage.run_dir import BASE, RunReader, RunWriter

from .checkpoint import checkpoint_folder
from .checkpoint_models import adapter_identity, base_identity, question_prompts
from .config import TrainingConfig
from .setup import TrainingSetup
from .trackers import Trackers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalSetup:
    """The benchmarks of a run and how they are sampled, loaded and checked."""

    benchmarks: list[Benchmark]
    prompts: PromptBuilder
    request: EvaluationRequest


def setup_evaluation(config: TrainingConfig) -> EvalSetup | None:
    """Loads the benchmarks; returns None where the run asks for no evaluation.

    Raises DataError where a benchmark is not there, cannot be graded, or holds a question that does
    not fit, SettingsError where its grader cannot be used, RunError where two share a name, and
    ModelError where no room is left for questions.
    """
    evaluation = config.evaluation
    if not evaluation.every:
        return None
    request = evaluation.request_for(config.model.path, config.markers)
    loaded = load_benchmarks(evaluation.benchmarks, evaluation.columns, evaluation.grader)
    benchmarks = [benchmark.first(request.limit) for benchmark in loaded]
    refuse_duplicate_names("benchmarks", [benchmark.name for benchmark in benchmarks])
    prompts = question_prompts(config.model, config.prompts, request.sampling.max_new_tokens)
    for benchmark in benchmarks:
        completion_requests(benchmark, prompts, request)
    return EvalSetup(benchmarks, prompts, request)


def evaluation_pending(config: TrainingConfig, folder: Path, step: int) -> bool:
    """Returns whether an evaluation is due after this step and has not been completed."""
    if not config.evaluation.due(step, config.steps):
        return False
    return all(row["step"] != step for row in RunReader(folder).evaluations())


class PeriodicEvaluator:
    """Runs the evaluations of a run when they are due; every process takes part in the drawing."""

    def __init__(
        self,
        setup: TrainingSetup,
        eval_setup: EvalSetup | None,
        writer: RunWriter,
        trackers: Trackers,
    ):
        self.setup, self.eval_setup = setup, eval_setup
        self.writer, self.trackers = writer, trackers

    def run_if_due(self, step: int, stop: StopRequest) -> None:
        """Draws and grades what is missing of the evaluation after `step` steps, if one is due;
        nothing is drawn twice.

        Raises Interrupted after a SIGINT or SIGTERM, once the batch under way is written down.
        """
        config, accelerator = self.setup.config, self.setup.accelerator
        if self.eval_setup is None or not config.evaluation.due(step, config.steps):
            return
        model = self.setup.policy.model
        sampler = DataParallelSampler(
            HFSampler(model, self.eval_setup.request.sampling), self.setup.layout, accelerator, stop
        )
        stopped_by = 0
        with nullcontext() if step else frozen(model):
            if accelerator.is_main_process:
                stopped_by = self._complete(self.eval_setup, step, sampler)
                sampler.close()  # not after an error, which ends the others wherever they wait
            else:
                sampler.serve()
        stopped_by = max(gather_object([stopped_by]))
        if stopped_by:
            raise Interrupted(stopped_by, step)

    def _complete(self, eval_setup: EvalSetup, step: int, sampler: DataParallelSampler) -> int:
        """Returns the signal that cut it short, or 0.  What cannot be evaluated is said, and
        training goes on.
        """
        config, folder = self.setup.config, self.writer.folder
        if not evaluation_pending(config, folder, step):
            return 0
        candidate = self._candidate(step, sampler)
        sampling = eval_setup.request.sampling
        batch_size = sampling.batch_size * self.setup.accelerator.num_processes
        sampling = replace(sampling, batch_size=batch_size)
        request = replace(eval_setup.request, sampling=sampling)
        try:
            forget_other_weights(folder / "evaluation", candidate)
            with progress_bar() as show:
                on_progress = _stoppable(show, sampler)
                results = evaluate(
                    [candidate],
                    eval_setup.benchmarks,
                    eval_setup.prompts,
                    request,
                    folder / "evaluation",
                    on_progress,
                )
        except _Stopped:
            return sampler.stopped_by
        except (RunError, WorkerError) as error:
            logger.warning(
                "The evaluation after step %d is left out, and training goes on. %s", step, error
            )
            return 0
        names = [benchmark.name for benchmark in eval_setup.benchmarks]
        numbers = {name: _numbers(results.score(candidate.name, name)) for name in names}
        row = {"step": step, "evaluation": numbers}
        self.writer.metrics(row)
        self.trackers.log(row)
        return 0

    def _candidate(self, step: int, sampler: Sampler) -> Candidate:
        """Returns the weights in memory as a candidate: they are those of the checkpoint of `step`,
        or the base's.
        """
        name, identity = BASE, base_identity(self.setup.model_fingerprint, self.setup.policy)
        if step:
            folder = checkpoint_folder(self.writer.folder, step)
            name, identity = folder.name, adapter_identity(identity, folder)
        return Candidate(name, identity, lambda sampling: nullcontext(sampler))


class _Stopped(Exception):
    """A signal has asked the run to stop."""


def _stoppable(show: ProgressCallback, sampler: DataParallelSampler) -> ProgressCallback:
    """Returns a callback that shows each batch, and ends the evaluation after the one in which a
    process of the run was asked to stop.
    """

    def on_progress(progress: Progress) -> None:
        show(progress)
        if sampler.stopped_by:
            raise _Stopped

    return on_progress


def _numbers(score: Score) -> dict[str, float | None]:
    """Returns what of a score goes into metrics.jsonl; the rest is in evaluation/results.json."""
    return {
        "accuracy": score.accuracy,
        "standard_error": score.standard_error,
        "completion_length": score.mean_tokens,
        "truncation_rate": score.truncation_rate,
        "no_box_rate": score.no_box_rate,
        "ungraded_rate": score.ungraded_rate,
        "epistemic_per_response": score.markers,
        "epistemic_per_1000_tokens": score.markers_per_1000_tokens,
    }
