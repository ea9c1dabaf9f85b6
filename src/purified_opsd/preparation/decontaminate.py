"""Finds training problems that are questions of a benchmark.

What counts is the share of the question's 8-grams that a problem holds.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from purified_opsd.data.dataset import Example
from purified_opsd.evaluation.benchmarks import Benchmark

from .prepare import Finding

WORDS = 8
THRESHOLD = 0.5
"""Above what unlike problems reach (0.42) and below lightly edited copies, as measured in
docs/data.md.
"""

Gram = tuple[str, ...]


def grams(text: str, size: int = WORDS) -> set[Gram]:
    """Every run of `size` words."""
    words = _words(text)
    runs = set()
    for first in range(len(words) - size + 1):
        run = words[first : first + size]
        runs.add(tuple(run))
    return runs


def _words(text: str) -> list[str]:
    """Letters and digits in lower case.

    Commands of LaTeX and Greek letters do not count: copies of a problem differ in them.
    """
    without_commands = re.sub(r"\\[a-zA-Z]+", " ", text)
    return re.findall(r"[^\W_\u0370-\u03ff]+", without_commands.lower())


def question_grams(question: str) -> set[Gram]:
    """The 8-grams of a question; a question with fewer words counts as one run of them all."""
    full = grams(question)
    if full:
        return full
    words = len(_words(question))
    return grams(question, max(1, words))


@dataclass(frozen=True)
class Overlap:
    """Finds the rows whose problem contains a question of any of the benchmarks."""

    benchmarks: Sequence[Benchmark]
    threshold: float = THRESHOLD
    drops: bool = False
    """Such rows are left out; otherwise they stay, with a remark."""
    _questions: list[tuple[str, int]] = field(init=False, repr=False, default_factory=list)
    """Each question's name and how many 8-grams it has."""
    _holders: dict[Gram, list[int]] = field(init=False, repr=False, default_factory=dict)
    """Which questions an 8-gram stands in."""
    _lengths: set[int] = field(init=False, repr=False, default_factory=set)
    """Words of a gram: 8, unless a question has fewer."""

    def __post_init__(self):
        if not 0 < self.threshold <= 1:
            raise ValueError(
                "The overlap threshold is a share of a question's 8-grams, above 0 and at most 1, "
                f"got {self.threshold}. Leave it out for {THRESHOLD}."
            )
        for benchmark in self.benchmarks:
            for question in benchmark.questions:
                name = f"{benchmark.name} {question.id}"
                self._add(name, question.problem)

    def _add(self, name: str, problem: str) -> None:
        """Enters a question's 8-grams."""
        grams_of_question = question_grams(problem)
        index = len(self._questions)
        self._questions.append((name, len(grams_of_question)))
        for gram in grams_of_question:
            holders = self._holders.setdefault(gram, [])
            holders.append(index)
            self._lengths.add(len(gram))

    def __call__(self, examples: Sequence[Example]) -> Sequence[Finding | None]:
        return [self._finding(example.problem) for example in examples]

    def nearest(self, problem: str) -> tuple[str, float]:
        """The question that is most contained in a problem, and its containment."""
        nearest = ""
        largest = 0.0
        for index, count in self._shared(problem).items():
            name, grams_of_question = self._questions[index]
            share = count / grams_of_question
            if (share, name) > (largest, nearest):
                nearest = name
                largest = share
        return nearest, largest

    def _shared(self, problem: str) -> Counter[int]:
        """How many grams a problem shares with each question, by the question's index."""
        problem_grams: set[Gram] = set()
        for size in self._lengths:
            problem_grams |= grams(problem, size)
        shared = Counter()
        for gram in problem_grams:
            holders = self._holders.get(gram, [])
            shared.update(holders)
        return shared

    def _finding(self, problem: str) -> Finding | None:
        name, share = self.nearest(problem)
        if share < self.threshold:
            return None
        detail = f"{name} ({share:.0%} of its 8-grams)"
        return Finding("overlap with a benchmark", detail, self.drops)
