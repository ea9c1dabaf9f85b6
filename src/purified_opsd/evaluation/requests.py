"""What an evaluation requests: how many completions of each problem, how they are sampled, and the
prompt and seed of every single one.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from purified_opsd.data.prompts import PromptBuilder, refused_as_row
from purified_opsd.data.seeds import seed_for
from purified_opsd.errors import DataError
from purified_opsd.sampling.sampler import Sampler, Sampling

from .benchmarks import Benchmark, Question
from .sample_store import SampleKey


@dataclass(frozen=True)
class Candidate:
    """A model to evaluate: a base, a checkpoint, or any other weights that can be sampled from."""

    name: str
    identity: str
    """Tells its weights from all others."""
    sampler: Callable[[Sampling], AbstractContextManager[Sampler]]
    """Puts the weights in place for as long as it is entered."""
    engine: str = "transformers"
    """The library that samples: the same seed means other random numbers in another."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What is requested of every candidate alike."""

    sampling: Sampling
    runs: int = 1
    """Completions of each problem."""
    limit: int | None = None
    """The first problems of each benchmark only; None: all."""
    seed: int = 0
    markers: tuple[str, ...] = ()
    """Epistemic markers of the user's own, counted beside Kim et al.'s."""

    def __post_init__(self):
        check_counts(self.runs, self.limit)
        if self.sampling.temperature == 0 and self.runs > 1:
            raise ValueError(
                f"{self.runs} runs at temperature 0 would be one run {self.runs} times over, and "
                "its agreement with itself would pass for certainty. Ask for one run, or sample at "
                "a temperature above 0."
            )


def check_counts(runs: int, limit: int | None) -> None:
    """Raises ValueError where no completion would be requested."""
    if runs < 1:
        raise ValueError(
            f"runs must be at least 1, got {runs}: nothing would be drawn. The paper takes 12."
        )
    if limit is not None and limit < 1:
        raise ValueError(
            f"limit must be at least 1, got {limit}: no problem would be left. Leave it out for "
            "all."
        )


@dataclass(frozen=True)
class CompletionRequest:
    """A request for one completion of one question."""

    question: Question
    prompt: list[int]
    run: int
    seed: int

    @property
    def key(self) -> SampleKey:
        return self.run, self.question.id


def completion_requests(
    benchmark: Benchmark, prompts: PromptBuilder, request: EvaluationRequest
) -> list[CompletionRequest]:
    """Every completion requested on a benchmark, run by run.

    The seed of a completion is a function of the evaluation's seed, the benchmark, the run and the
    problem: all candidates meet the same random numbers, so that the difference of two is less
    noisy than either.  Raises DataError where a question does not fit.
    """
    prompt_of = _question_prompts(benchmark, prompts)
    requests = []
    for run in range(request.runs):
        for question in benchmark.questions:
            seed = seed_for(request.seed, "evaluation", benchmark.name, run, question.id)
            requests.append(CompletionRequest(question, prompt_of[question.id], run, seed))
    return requests


def _question_prompts(benchmark: Benchmark, prompts: PromptBuilder) -> dict[str, list[int]]:
    """The prompt of each question, by its id.  Raises DataError where one does not fit."""
    prompt_of = {}
    for question in benchmark.questions:
        with refused_as_row(question.where):
            prompt = prompts.base_context(question.problem)
        if len(prompt) > prompts.limit:
            raise DataError(
                f"{question.where}: its question takes {len(prompt)} tokens, and {prompts.limit} "
                "are left for it beside a whole completion. Questions are never cut: allow fewer "
                "new tokens, or leave the row out."
            )
        prompt_of[question.id] = prompt
    return prompt_of


def generation_settings(
    candidate: Candidate, benchmark: Benchmark, prompts: PromptBuilder, request: EvaluationRequest
) -> dict[str, Any]:
    """Everything that decides what is sampled, and so must not change between the samples of one
    candidate on one benchmark.  The number of runs and problems may grow.
    """
    return {
        "weights": candidate.identity,
        "engine": candidate.engine,
        "questions": benchmark.fingerprint,
        "answers": benchmark.answers,
        "grader": benchmark.record.get("grader"),
        "wording": prompts.wording,
        "thinking": prompts.settings.thinking,
        "seed": request.seed,
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "top_k": request.sampling.top_k,
        "max_new_tokens": request.sampling.max_new_tokens,
    }
