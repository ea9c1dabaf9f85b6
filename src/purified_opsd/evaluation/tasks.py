"""One candidate on one benchmark: its completions are sampled, graded and stored as they finish."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from purified_opsd.data.prompts import PromptBuilder
from purified_opsd.evaluation.grading.graders import grade_all
from purified_opsd.sampling.sampler import Completion, Sampler
from purified_opsd.storage.completions import CompletionRow

from .benchmarks import Benchmark
from .compatibility_checks import refuse_identical_runs
from .progress import Progress, ProgressCallback
from .requests import Candidate, CompletionRequest, EvaluationRequest
from .results import GradedSamples, select_requested
from .sample_store import BenchmarkRequest, SampleFolder, StoredSamples, sample_of


@dataclass
class EvaluationTask:
    """One candidate on one benchmark: the completions that are requested, the samples that are
    stored, and the folder where new ones go.
    """

    candidate: Candidate
    benchmark: Benchmark
    benchmark_request: BenchmarkRequest
    requests: Sequence[CompletionRequest]
    folder: SampleFolder
    stored: StoredSamples

    @property
    def done(self) -> int:
        return sum(request.key in self.stored.grades for request in self.requests)

    @property
    def accuracy(self) -> float | None:
        """The accuracy so far; None before anything is graded."""
        grades = self.stored.grades
        correct = [
            grades[request.key].correct for request in self.requests if request.key in grades
        ]
        return sum(correct) / len(correct) if correct else None

    def without_sample(self, requests: Sequence[CompletionRequest]) -> list[CompletionRequest]:
        """Those of the requests that are still to be sampled."""
        return [request for request in requests if request.key not in self.stored.samples]

    def without_grade(self) -> list[CompletionRequest]:
        """The requests whose samples are still to be graded."""
        ungraded = self.stored.samples.keys() - self.stored.grades.keys()
        return [request for request in self.requests if request.key in ungraded]

    def graded_samples(self) -> GradedSamples:
        """What is graded so far of what is requested."""
        return select_requested(
            self.candidate.name,
            self.benchmark.name,
            self.folder.settings(),
            self.benchmark_request,
            self.stored,
        )


class ProgressTracker:
    """Reports how far all tasks are, and how fast this call samples."""

    def __init__(self, tasks: Sequence[EvaluationTask], on_progress: ProgressCallback):
        self.tasks = tasks
        self.on_progress = on_progress
        self.total = sum(len(task.requests) for task in tasks)
        self.start = time.monotonic()
        self.tokens = 0

    def report(self, task: EvaluationTask, tokens: int = 0) -> None:
        """Calls back after another batch of `tokens` tokens of a task."""
        self.tokens += tokens
        speed = self.tokens / max(time.monotonic() - self.start, 1e-9)
        done = sum(task.done for task in self.tasks)
        self.on_progress(
            Progress(
                task.candidate.name, task.benchmark.name, done, self.total, task.accuracy, speed
            )
        )


def complete(
    task: EvaluationTask,
    prompts: PromptBuilder,
    request: EvaluationRequest,
    tracker: ProgressTracker,
) -> None:
    """Grades the samples without a grade, then samples and grades what is pending, a batch at a
    time.

    Batches are cut from the whole list of requests, and one of which anything is pending is sampled
    whole, if rows have neighbours: a row then has those that it would have had without an
    interruption, and on CPU is the same, bit for bit.
    """
    grade_samples(task, task.without_grade())
    refuse_identical_runs(task.stored.samples.values(), request.runs)
    size = request.sampling.batch_size
    starts = range(0, len(task.requests), size)
    batches = [task.requests[start : start + size] for start in starts]
    pending = [batch for batch in batches if task.without_sample(batch)]
    tracker.report(task)
    if not pending:
        return
    with task.candidate.sampler(request.sampling) as sampler:
        for batch in pending:
            new = task.without_sample(batch)
            sample_batch(task, batch, sampler, prompts)
            grade_samples(task, new)
            refuse_identical_runs(task.stored.samples.values(), request.runs)
            tracker.report(task, sum(task.stored.samples[item.key].tokens for item in new))


def sample_batch(
    task: EvaluationTask,
    batch: Sequence[CompletionRequest],
    sampler: Sampler,
    prompts: PromptBuilder,
) -> None:
    """Samples what a batch is missing and stores it as soon as the sampler hands it over."""

    def keep(completions: Mapping[int, Completion]) -> None:
        requests = [batch[index] for index in completions]
        store_samples(task, requests, list(completions.values()), prompts)

    stored = task.stored.samples
    missing = [index for index, request in enumerate(batch) if request.key not in stored]
    prompt_ids = [request.prompt for request in batch]
    sampler.generate_missing(prompt_ids, [request.seed for request in batch], missing, keep)


def store_samples(
    task: EvaluationTask,
    requests: Sequence[CompletionRequest],
    completions: Sequence[Completion],
    prompts: PromptBuilder,
) -> None:
    """Writes down the completions."""
    texts = prompts.tokenizer.batch_decode(
        [completion.ids for completion in completions], skip_special_tokens=True
    )
    rows = [
        CompletionRow(
            request.question.id,
            completion.finish_reason,
            text,
            completion.ids,
            seed=request.seed,
            extras={"run": request.run},
        )
        for request, completion, text in zip(requests, completions, texts, strict=True)
    ]
    task.folder.append(rows)
    for sample in map(sample_of, rows):
        task.stored.samples[sample.key] = sample


def grade_samples(task: EvaluationTask, requests: Sequence[CompletionRequest]) -> None:
    """Grades the samples of these requests and writes the grades down."""
    attempts = [
        (
            request.question.problem,
            request.question.answer,
            task.stored.samples[request.key].text,
        )
        for request in requests
    ]
    keys = [request.key for request in requests]
    grades = dict(zip(keys, grade_all(task.benchmark.grader, attempts), strict=True))
    task.folder.append_grades(grades)
    task.stored.grades.update(grades)
