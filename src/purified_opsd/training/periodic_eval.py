"""Evaluation on the way: the student in memory, on benchmarks, in the files that `purified-opsd
evaluate` goes on with.
"""

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate.utils import gather_object

from purified_opsd.data.prompts import PromptBuilder
from purified_opsd.distributed.data_parallel_sampler import SharedSampler
from purified_opsd.errors import Interrupted, RunError, WorkerError
from purified_opsd.evaluation.benchmarks import Benchmark, load_benchmark
from purified_opsd.evaluation.checks import refuse_duplicate_names
from purified_opsd.evaluation.evaluate import evaluate, forget_other_weights
from purified_opsd.evaluation.progress import Progress, ProgressCallback, progress_bar
from purified_opsd.evaluation.requests import Candidate, EvaluationRequest, completion_requests
from purified_opsd.evaluation.results import Score
from purified_opsd.evaluation.sample_store import BASE
from purified_opsd.interrupts import StopRequest
from purified_opsd.policy.model import frozen
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.sampler import Sampler
from purified_opsd.storage.run_dir import RunReader, RunWriter

from .checkpoint import checkpoint_folder
from .checkpoint_models import adapter_identity, base_identity, question_prompts
from .config import TrainingConfig
from .setup import TrainingSetup
from .trackers import Trackers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalSetup:
    """What is asked, loaded and checked."""

    benchmarks: list[Benchmark]
    prompts: PromptBuilder
    request: EvaluationRequest


def setup_evaluation(run: TrainingConfig) -> EvalSetup | None:
    """None where the run asks for no evaluation.

    Raises DataError where a benchmark is not there, cannot be graded, or holds a question that does
    not fit, RunError where two share a name, and ModelError where no room is left for questions.
    """
    asked = run.evaluation
    if not asked.every:
        return None
    request = asked.request_for(run.model.path, run.markers)
    benchmarks = [
        load_benchmark(name, asked.columns).first(request.limit) for name in asked.benchmarks
    ]
    refuse_duplicate_names("benchmarks", [benchmark.name for benchmark in benchmarks])
    prompts = question_prompts(run.model, run.prompts, request.sampling.max_new_tokens)
    for benchmark in benchmarks:
        completion_requests(benchmark, prompts, request)
    return EvalSetup(benchmarks, prompts, request)


def evaluation_pending(run: TrainingConfig, folder: Path, step: int) -> bool:
    """Is there an evaluation after this step, and has it not been completed?"""
    return run.evaluation.due(step, run.steps) and all(
        row["step"] != step for row in RunReader(folder).evaluations()
    )


class PeriodicEvaluator:
    """Takes the evaluations of a run when they are due; every process takes part in the drawing."""

    def __init__(
        self, job: TrainingSetup, sheet: EvalSetup | None, writer: RunWriter, trackers: Trackers
    ):
        self.job, self.sheet, self.writer, self.trackers = job, sheet, writer, trackers

    def run_if_due(self, step: int, stop: StopRequest) -> None:
        """Draws and grades what the evaluation after `step` steps owes, if one is due; nothing of
        it is drawn twice.

        Raises Interrupted after a SIGINT or SIGTERM, once the batch under way is written down.
        """
        if self.sheet is None or not self.job.run.evaluation.due(step, self.job.run.steps):
            return
        model, accelerator = self.job.policy.model, self.job.accelerator
        sampler = SharedSampler(
            HFSampler(model, self.sheet.request.sampling), self.job.layout, accelerator, stop
        )
        stopped_by = 0
        with nullcontext() if step else frozen(model):
            if accelerator.is_main_process:
                stopped_by = self._complete(self.sheet, step, sampler)
                sampler.close()  # not after an error, which ends the others wherever they wait
            else:
                sampler.serve()
        stopped_by = max(gather_object([stopped_by]))
        if stopped_by:
            raise Interrupted(stopped_by, step)

    def _complete(self, sheet: EvalSetup, step: int, sampler: SharedSampler) -> int:
        """The signal that cut it short, or 0.  What cannot be evaluated is said, and training goes
        on.
        """
        run, folder = self.job.run, self.writer.folder
        if not evaluation_pending(run, folder, step):
            return 0
        candidate = self._candidate(step, sampler)
        rows = sheet.request.sampling.batch_size * self.job.accelerator.num_processes
        sampling = replace(sheet.request.sampling, batch_size=rows)
        request = replace(sheet.request, sampling=sampling)
        try:
            forget_other_weights(folder / "evaluation", candidate)
            with progress_bar() as show:
                watch = _stoppable(show, sampler)
                results = evaluate(
                    [candidate],
                    sheet.benchmarks,
                    sheet.prompts,
                    request,
                    folder / "evaluation",
                    watch,
                )
        except _Stopped:
            return sampler.stopped_by
        except (RunError, WorkerError) as error:
            logger.warning(
                "The evaluation after step %d is left out, and training goes on. %s", step, error
            )
            return 0
        row = {
            "step": step,
            "evaluation": {
                b.name: _numbers(results.score(candidate.name, b.name)) for b in sheet.benchmarks
            },
        }
        self.writer.metrics(row)
        self.trackers.log(row)
        return 0

    def _candidate(self, step: int, sampler: Sampler) -> Candidate:
        """The weights in memory, which are those of the checkpoint of `step`, or the base's;
        nothing is loaded.
        """
        base = base_identity(self.job.model_fingerprint, self.job.policy)
        folder = checkpoint_folder(self.writer.folder, step)
        name, identity = (folder.name, adapter_identity(base, folder)) if step else (BASE, base)
        return Candidate(name, identity, lambda sampling: nullcontext(sampler))


class _Stopped(Exception):
    """A signal has asked the run to stop."""


def _stoppable(show: ProgressCallback, sampler: SharedSampler) -> ProgressCallback:
    """Shows each batch, and ends the evaluation after the one in which a process of the run was
    asked to stop.
    """

    def watch(progress: Progress) -> None:
        show(progress)
        if sampler.stopped_by:
            raise _Stopped

    return watch


def _numbers(score: Score) -> dict[str, float | None]:
    """What of a score goes into metrics.jsonl; the rest is in evaluation/results.json."""
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
