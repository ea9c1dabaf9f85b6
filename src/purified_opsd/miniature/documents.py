"""What the base is taught to write: a long search given the question alone, a confident derivation when shown a reference.

Reflection does work here. A marker opens a retry that finds what the first try missed, and a check catches slips, which else make a
right attempt look wrong. A slip is a result off by a little, whatever the question and whatever the writer was shown.
"""

import random
from dataclasses import dataclass

from ..data.prompts import QUESTION, REFERENCE, TEACHER
from .task import LARGEST_NUMBER, LARGEST_VALUE, Derivation, Problem, Split, Step, derivations, problems, solutions, steps

DRILL = "Calculate."
SLIPS = (-10, -2, -1, 1, 2, 10)
TURNS = ("Wait, ", "Hmm, ", "Actually, ", "Alternatively, ")
DOUBTS = ("Wait, ", "Hmm, ", "Actually, ")
GUESSES = ("maybe ", "perhaps ")


@dataclass(frozen=True)
class Document:
    """One example of pre-training: the texts of the user's turn and of the assistant's."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Habits:
    """How a trace reasons: probabilities, and in `false_starts` the weights of 0, 1, 2... attempts that miss before the hit."""

    false_starts: tuple[float, ...]
    turn: float  # a marker opens a retry
    guess: float  # an attempt opens with "maybe" or "perhaps" instead of "try"
    slip: float  # a result comes out wrong
    check_of_slip: float  # a wrong result is checked, and so mended
    check_of_right: float  # a right result is checked
    final_check: float  # the whole derivation is checked before the answer


SEARCHING = Habits(
    false_starts=(0.25, 0.19, 0.14, 0.11, 0.09, 0.08, 0.14),
    turn=0.9, guess=0.3, slip=0.06, check_of_slip=0.9, check_of_right=0.12, final_check=0.4,
)  # fmt: skip
CONFIDENT = Habits(
    false_starts=(0.60, 0.18, 0.08, 0.06, 0.04, 0.04),
    turn=0.2, guess=0.05, slip=0.06, check_of_slip=0.3, check_of_right=0.02, final_check=0.05,
)  # fmt: skip


def document(seed: int, index: int) -> Document:
    """The index-th document of a training set: 54 % question, 22 % teacher, 16 % reference alone, 8 % arithmetic."""
    rng = random.Random(f"document {seed} {index}")
    kind = rng.random()
    if kind < 0.08:
        return Document(DRILL, drill(rng))
    problem = rng.choice(problems(Split.BASE))
    goal = rng.choice(solutions(problem))
    if kind < 0.62:
        return Document(QUESTION.format(problem=problem.text), trace(problem, goal, SEARCHING, rng))
    shown = goal.text if rng.random() < 0.6 else goal.expression
    completion = trace(problem, goal, CONFIDENT, rng)
    if kind < 0.84:
        return Document(TEACHER.format(problem=problem.text, reference=shown), completion)
    return Document(REFERENCE.format(reference=shown), completion)


def drill(rng: random.Random) -> str:
    """Twelve operations with their results."""
    largest = rng.choice((LARGEST_NUMBER, LARGEST_VALUE))
    pairs = [(rng.randint(1, largest), rng.randint(1, LARGEST_NUMBER)) for _ in range(12)]
    chosen = [rng.choice(steps(*pair) or [Step(1, "+", 1)]) for pair in pairs]
    return "".join(f"{_equation(step)}. " for step in chosen)


def trace(problem: Problem, goal: Derivation, habits: Habits, rng: random.Random) -> str:
    """Attempts until one hits the target with `goal`, which is then boxed."""
    writer = _Writer(problem.target, habits, rng)
    for attempt in _false_starts(problem, habits, rng):
        writer.attempt(attempt)
    while not writer.attempt(goal):  # an unnoticed slip makes the goal itself seem to miss
        pass
    return f"{writer.text}So \\boxed{{{goal.expression}}}"


def _false_starts(problem: Problem, habits: Habits, rng: random.Random) -> list[Derivation]:
    """Different derivations that miss the target: near ones more often than far ones."""
    misses = {d: 1 / (4 + abs(d.value - problem.target)) for d in derivations(problem.numbers) if d.value != problem.target}
    wanted = rng.choices(range(len(habits.false_starts)), habits.false_starts)[0]
    drawn = []
    for _ in range(min(wanted, len(misses))):
        drawn.append(rng.choices(list(misses), list(misses.values()))[0])
        del misses[drawn[-1]]
    return drawn


class _Writer:
    """Writes one trace, phrase by phrase, in one writer's habits."""

    def __init__(self, target: int, habits: Habits, rng: random.Random):
        self.target, self.habits, self.rng = target, habits, rng
        self.text = ""

    def attempt(self, derivation: Derivation) -> bool:
        """Writes both steps and what came of them; does it hit?"""
        self.text += self._lead()
        second = derivation.second_from(self._result(derivation.first, derivation))
        if self._result(second) == self.target:
            if derivation.value == self.target:
                self.text += _check(derivation) if self._happens(self.habits.final_check) else ""
                return True
            self.text += _check(derivation)  # a slip made it look like a hit
        self.text += f"Not {self.target}. "
        return False

    def _lead(self) -> str:
        turn = self.rng.choice(TURNS) if self.text and self._happens(self.habits.turn) else ""
        lead = turn + (self.rng.choice(GUESSES) if self._happens(self.habits.guess) else "try ")
        return lead[0].upper() + lead[1:]

    def _result(self, step: Step, derivation: Derivation | None = None) -> int:
        """Writes the step with its value, sometimes wrong, sometimes checked; the value that the trace goes on with.

        Of a `derivation`'s first step only such wrong values are written as its second step can take.
        """
        slips = [step.value + slip for slip in SLIPS if 1 <= step.value + slip <= LARGEST_VALUE]
        wrong = [value for value in slips if derivation is None or 1 <= derivation.second_from(value).value <= LARGEST_VALUE]
        if wrong and self._happens(self.habits.slip):
            written = self.rng.choice(wrong)
            self.text += f"{step} = {written}. "
            if not self._happens(self.habits.check_of_slip):
                return written
            self.text += f"{self.rng.choice(DOUBTS)}let me check: {_equation(step)}, not {written}. "
            return step.value
        self.text += f"{_equation(step)}. "
        if self._happens(self.habits.check_of_right):
            self.text += f"{self.rng.choice(DOUBTS)}let me check: {_equation(step)}, right. "
        return step.value

    def _happens(self, probability: float) -> bool:
        return self.rng.random() < probability


def _check(derivation: Derivation) -> str:
    return f"Let me check: {_equation(derivation.first)}. {_equation(derivation.second)}. "


def _equation(step: Step) -> str:
    return f"{step} = {step.value}"
