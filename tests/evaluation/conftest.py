"""A sampler of ten lines whose right answers are known by construction, and a benchmark to go with
it.
"""

import json
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from purified_opsd.data.prompts import PromptBuilder, Prompts
from purified_opsd.evaluation.benchmarks import load_benchmark
from purified_opsd.evaluation.requests import Candidate, EvaluationPlan
from purified_opsd.sampling.sampler import Completion, Sampler, Sampling

from ..conftest import byte_tokenizer

TOKENIZER = byte_tokenizer()


@dataclass
class Scripted(Sampler):
    """Answers `What is 3 + 4?` rightly where the draw's seed is below `accuracy`, else one too
    high; counts its draws.
    """

    accuracy: float = 1.0
    seen: list[int] = field(default_factory=list)

    def generate(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[Completion]:
        self.seen += seeds
        return [
            self._one(TOKENIZER.decode(prompt), seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def _one(self, prompt: str, seed: int) -> Completion:
        left, right = prompt.split("What is ")[1].split("?")[0].split(" + ")
        answer = int(left) + int(right) + (seed % 1000 >= 1000 * self.accuracy)
        ids = TOKENIZER.encode(f"Hmm, by {seed % 97}: \\boxed{{{answer}}}<|end|>")
        return Completion(ids, [0.0] * len(ids), "stop")

    def sync(self, step: int) -> None:
        pass


def candidate(name: str, sampler: Scripted) -> Candidate:
    @contextmanager
    def entered(sampling: Sampling):
        yield sampler

    return Candidate(name, f"weights of {name}", entered)


@pytest.fixture
def prompts():
    return PromptBuilder(TOKENIZER, Prompts(), room=2000)


@pytest.fixture
def sums(tmp_path):
    """Ten sums in a file."""
    file = tmp_path / "sums.jsonl"
    rows = [
        {"id": f"s{i}", "problem": f"What is {i} + {i * i}?", "answer": str(i + i * i)}
        for i in range(10)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_benchmark(str(file))


@pytest.fixture
def plan():
    return EvaluationPlan(
        Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=64, batch_size=4), runs=3
    )
