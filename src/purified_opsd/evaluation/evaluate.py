"""Evaluates every candidate on every benchmark with several runs of each problem.

A candidate is only a name, an identity and a way to a sampler, so nothing here knows which model is
evaluated.  The samples that are on the disk are read once, when the evaluation begins; from then on
everything that is written there is kept in memory too.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from purified_opsd.data.prompts import PromptBuilder
from purified_opsd.storage.files import locked

from .benchmarks import Benchmark
from .compatibility_checks import refuse_duplicate_names, refuse_mixture
from .progress import ProgressCallback, ignore_progress
from .requests import (
    Candidate,
    CompletionRequest,
    EvaluationRequest,
    completion_requests,
    generation_settings,
)
from .results import GradedSamples, Results, read_graded
from .sample_store import BenchmarkRequest, SampleFolder, write_request
from .summary import write_summary
from .tasks import EvaluationTask, ProgressTracker, complete


def evaluate(
    candidates: Sequence[Candidate],
    benchmarks: Sequence[Benchmark],
    prompts: PromptBuilder,
    request: EvaluationRequest,
    folder: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> Results:
    """Samples and grades what `folder` does not hold yet; writes results.json and table.md there.
    Accuracies are shares, with 95 % intervals over questions (docs/evaluation.md).

    Interrupted anywhere, the same call completes what is pending.  Raises RunError where two
    candidates or benchmarks share a name, the folder holds samples that cannot stand beside those
    requested, or whole runs repeat each other, and DataError where a question is too long.
    """
    refuse_duplicate_names("candidates", [candidate.name for candidate in candidates])
    refuse_duplicate_names("benchmarks", [benchmark.name for benchmark in benchmarks])
    benchmarks = [benchmark.first(request.limit) for benchmark in benchmarks]
    requests = {
        benchmark.name: completion_requests(benchmark, prompts, request) for benchmark in benchmarks
    }
    with locked(folder):
        tasks = open_tasks(candidates, benchmarks, requests, prompts, request, folder)
        for benchmark in benchmarks:
            write_request(
                folder / benchmark.name,
                _benchmark_request(benchmark, request),
                benchmark.problems,
            )
        names = {(task.candidate.name, task.benchmark.name) for task in tasks}
        others = read_graded(folder, skip=names)

        _summarize(folder, tasks, others)  # pending samples are marked, however this ends
        tracker = ProgressTracker(tasks, on_progress)
        try:
            for task in tasks:
                complete(task, prompts, request, tracker)
        except OSError:  # where the samples found no room, results find none
            raise
        except BaseException:
            _summarize(folder, tasks, others)
            raise
        return _summarize(folder, tasks, others)


def _summarize(
    folder: Path, tasks: Sequence[EvaluationTask], others: Sequence[GradedSamples]
) -> Results:
    """Writes results.json and table.md, of the tasks and of what else the folder holds."""
    results = Results([*(task.graded_samples() for task in tasks), *others])
    write_summary(folder, results)
    return results


def open_tasks(
    candidates: Sequence[Candidate],
    benchmarks: Sequence[Benchmark],
    requests: Mapping[str, Sequence[CompletionRequest]],
    prompts: PromptBuilder,
    request: EvaluationRequest,
    folder: Path,
) -> list[EvaluationTask]:
    """Every candidate on every benchmark, with the samples that the folder holds.  Raises RunError
    where those cannot stand beside the requested ones.
    """
    settings = {}
    for candidate in candidates:
        for benchmark in benchmarks:
            generation = generation_settings(candidate, benchmark, prompts, request)
            settings[candidate.name, benchmark.name] = generation
    refuse_mixture(folder, settings)
    tasks = []
    for candidate in candidates:
        for benchmark in benchmarks:
            samples = SampleFolder(folder / benchmark.name / candidate.name)
            samples.begin(settings[candidate.name, benchmark.name])
            task = EvaluationTask(
                candidate,
                benchmark,
                _benchmark_request(benchmark, request),
                requests[benchmark.name],
                samples,
                samples.read(),
            )
            tasks.append(task)
    return tasks


def _benchmark_request(benchmark: Benchmark, request: EvaluationRequest) -> BenchmarkRequest:
    ids = list(benchmark.problems)
    return BenchmarkRequest(ids, request.runs, dict(benchmark.record), request.markers)


def forget_other_weights(folder: Path, candidate: Candidate) -> None:
    """Removes the samples under a candidate's name that came from other weights than it has now.

    This is for a step that is taken again after a damaged checkpoint: a GPU does not repeat itself
    to the bit.
    """
    for settings in folder.glob(f"*/{candidate.name}/settings.json"):
        if SampleFolder(settings.parent).settings()["weights"] != candidate.identity:
            shutil.rmtree(settings.parent)
