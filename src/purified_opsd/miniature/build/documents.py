"""What the base is taught to write.

Given the question alone it searches at length; shown a reference it derives with confidence.

Reflection does work here. A retry finds what the first try missed. Results slip, whatever the
question and whatever the writer was shown, and a slip that no check mends makes a right attempt
look wrong; patience is limited, so a missed attempt costs something.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from purified_opsd.data.prompts import BASE_TEMPLATE, REFERENCE_TEMPLATE, TEACHER_TEMPLATE
from purified_opsd.miniature.task import (
    LARGEST_NUMBER,
    LARGEST_VALUE,
    Derivation,
    Problem,
    Split,
    Step,
    derivations,
    problems,
    solutions,
    steps,
)

from .tokenizer import CHECKS

DRILL = "Calculate."
SLIPS = (-10, -2, -1, 1, 2, 10)
TURNS = ("Wait, ", "Hmm, ", "Actually, ", "Alternatively, ")
GUESSES = ("maybe ", "perhaps ")


@dataclass(frozen=True)
class Document:
    """One example of pre-training: the texts of the user's turn and of the assistant's."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Habits:
    """How a trace reasons, as probabilities."""

    hit: float
    """An attempt is the one that reaches the target."""
    give_up: float
    """The trace ends after an attempt that seems to miss."""
    turn: float
    """A marker opens a retry."""
    guess: float
    """An attempt opens with "maybe" or "perhaps" instead of "try"."""
    slip: float
    """A result comes out wrong."""
    check: float
    """A result is checked, and mended if it is wrong."""


SEARCHING = Habits(hit=0.35, give_up=0.06, turn=0.9, guess=0.3, slip=0.3, check=0.85)
CONFIDENT = Habits(hit=0.75, give_up=0.06, turn=0.2, guess=0.05, slip=0.3, check=0.1)


def document(seed: int, index: int) -> Document:
    """The index-th document of a training set.

    54 % show the question, 22 % question and reference, 16 % the reference alone, and 8 % are
    arithmetic.
    """
    rng = random.Random(f"document {seed} {index}")
    kind = rng.random()
    if kind < 0.08:
        return Document(DRILL, drill(rng))
    problem = rng.choice(problems(Split.BASE))
    goal = rng.choice(solutions(problem))
    if kind < 0.62:
        completion = trace(problem, goal, SEARCHING, rng)
        return Document(BASE_TEMPLATE.format(problem=problem.text), completion)
    shown = goal.text if rng.random() < 0.6 else goal.expression
    completion = trace(problem, goal, CONFIDENT, rng)
    if kind < 0.84:
        return Document(TEACHER_TEMPLATE.format(problem=problem.text, reference=shown), completion)
    return Document(REFERENCE_TEMPLATE.format(reference=shown), completion)


def drill(rng: random.Random) -> str:
    """Twelve operations with their results."""
    largest = rng.choice((LARGEST_NUMBER, LARGEST_VALUE))
    pairs = [(rng.randint(1, largest), rng.randint(1, LARGEST_NUMBER)) for _ in range(12)]
    chosen = [rng.choice(steps(*pair) or [Step(1, "+", 1)]) for pair in pairs]
    return "".join(f"{_equation(step)}. " for step in chosen)


def trace(problem: Problem, goal: Derivation, habits: Habits, rng: random.Random) -> str:
    """Attempts until one seems to hit the target, or patience ends; the last one is boxed."""
    writer = _Writer(problem.target, habits, rng)
    misses = {
        derivation: 1 / (4 + abs(derivation.value - problem.target))
        for derivation in derivations(problem.numbers)
        if derivation.value != problem.target
    }
    while True:
        attempt = goal if rng.random() < habits.hit or not misses else _drawn(misses, rng)
        if writer.attempt(attempt) or rng.random() < habits.give_up:
            return f"{writer.text}So \\boxed{{{attempt.expression}}}"


def _drawn(weights: dict[Derivation, float], rng: random.Random) -> Derivation:
    """Takes one derivation out, near the target more often than far from it, and never twice."""
    drawn = rng.choices(list(weights), list(weights.values()))[0]
    del weights[drawn]
    return drawn


class _Writer:
    """Writes one trace, phrase by phrase, in one writer's habits."""

    def __init__(self, target: int, habits: Habits, rng: random.Random):
        self.target, self.habits, self.rng = target, habits, rng
        self.text = ""

    def attempt(self, derivation: Derivation) -> bool:
        """Writes both steps and what came of them; whether the result seems to hit."""

        def leaves_a_second_step(value: int) -> bool:
            return 1 <= derivation.second_from(value).value <= LARGEST_VALUE

        self.text += self._lead()
        first = self._result(derivation.first, leaves_a_second_step)
        second = self._result(derivation.second_from(first), lambda value: True)
        if second == self.target:
            return True
        self.text += f"Not {self.target}. "
        return False

    def _lead(self) -> str:
        turn = self.rng.choice(TURNS) if self.text and self._happens(self.habits.turn) else ""
        lead = turn + (self.rng.choice(GUESSES) if self._happens(self.habits.guess) else "try ")
        return lead[0].upper() + lead[1:]

    def _result(self, step: Step, usable: Callable[[int], bool]) -> int:
        """Writes the step, whose value may slip to another usable one, and perhaps a check.

        Returns the value with which the trace goes on.
        """
        value, slipped = step.value, [step.value + slip for slip in SLIPS]
        wrong = [slip for slip in slipped if 1 <= slip <= LARGEST_VALUE and usable(slip)]
        if wrong and self._happens(self.habits.slip):
            value = self.rng.choice(wrong)
        self.text += f"{step} = {value}. "
        if not self._happens(self.habits.check):
            return value
        self.text += f"{self.rng.choice(CHECKS)}{step.value}. "
        return step.value

    def _happens(self, probability: float) -> bool:
        return self.rng.random() < probability


def _equation(step: Step) -> str:
    return f"{step} = {step.value}"
