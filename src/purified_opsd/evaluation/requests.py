"""What is asked: which candidates, how many runs, under which sampling, and the seed of every
single draw.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from purified_opsd.data.prompts import WORDING, PromptBuilder
from purified_opsd.data.seeds import seed_for
from purified_opsd.errors import DataError
from purified_opsd.sampling.sampler import Sampler, Sampling

from .benchmarks import Benchmark, Question
from .sample_store import Key

BASE = "base"
"""The name under which a model without any adapter is evaluated."""


@dataclass(frozen=True)
class Candidate:
    """What is evaluated: a base, a checkpoint, or anything else that completions can be drawn from."""

    name: str
    identity: str
    """Tells its weights from all others."""
    sampler: Callable[[Sampling], AbstractContextManager[Sampler]]
    """Puts the weights in place for as long as it is entered."""
    engine: str = "transformers"
    """What draws: the same seed means other random numbers in another."""


@dataclass(frozen=True)
class EvaluationPlan:
    """What is asked of every candidate alike."""

    sampling: Sampling
    runs: int = 1
    """Completions of each problem."""
    limit: int | None = None
    """The first problems of each benchmark only."""
    seed: int = 0
    markers: tuple[str, ...] = ()
    """Epistemic markers of one's own, counted beside Kim et al.'s."""

    def __post_init__(self):
        if self.runs < 1:
            raise ValueError(
                f"runs must be at least 1, got {self.runs}: nothing would be drawn. The paper "
                "takes 12."
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError(
                f"limit must be at least 1, got {self.limit}: no problem would be left. Leave it "
                "out for all."
            )
        if self.sampling.temperature == 0 and self.runs > 1:
            raise ValueError(
                f"{self.runs} runs at temperature 0 would be one run {self.runs} times over, and "
                "its agreement with itself would pass for certainty. Ask for one run, or sample at "
                "a temperature above 0."
            )


@dataclass(frozen=True)
class Draw:
    """One completion that is asked for."""

    question: Question
    prompt: list[int]
    run: int
    seed: int

    @property
    def key(self) -> Key:
        return self.run, self.question.id


def draws_of(benchmark: Benchmark, prompts: PromptBuilder, plan: EvaluationPlan) -> list[Draw]:
    """Every completion asked for on a benchmark, run by run.

    A draw's seed is a function of the plan's, the benchmark, the run and the problem: all
    candidates meet the same random numbers, so that the difference of two is less noisy than
    either.  Raises DataError where a question does not fit.
    """
    prompt_of = {
        question.id: prompts.base_context(question.problem) for question in benchmark.questions
    }
    for question in benchmark.questions:
        if len(prompt_of[question.id]) > prompts.limit:
            raise DataError(
                f"{question.where}: its question takes {len(prompt_of[question.id])} tokens, and "
                f"{prompts.limit} are left for it beside a whole completion. Questions are never "
                "cut: allow fewer new tokens, or leave the row out."
            )
    return [
        Draw(
            question,
            prompt_of[question.id],
            run,
            seed_for(plan.seed, "evaluation", benchmark.name, run, question.id),
        )
        for run in range(plan.runs)
        for question in benchmark.questions
    ]


def settings_of(
    candidate: Candidate, benchmark: Benchmark, prompts: PromptBuilder, plan: EvaluationPlan
) -> dict[str, Any]:
    """All that decides what is drawn, and so must not change under samples that are there.  More
    runs and problems may come.
    """
    return {
        "weights": candidate.identity,
        "engine": candidate.engine,
        "questions": benchmark.fingerprint,
        "answers": benchmark.answers,
        "wording": WORDING,
        "thinking": prompts.settings.thinking,
        "seed": plan.seed,
        "temperature": plan.sampling.temperature,
        "top_p": plan.sampling.top_p,
        "top_k": plan.sampling.top_k,
        "max_new_tokens": plan.sampling.max_new_tokens,
    }
