"""What the base is taught to write: a long search given the question alone, a short derivation when it is shown a reference.

Reflection does work here. A marker opens a retry that finds what the first try missed, or a backward step ("maybe x + 12 = 33, so
x = 21") that narrows the search; a check follows every slip and mends it. A slip is a result off by a little, whatever the
question. Only a false hit leans on the question: an attempt that nearly reaches the target is taken for a hit, until the check of
the whole rejects it.
"""

import random
from dataclasses import dataclass
from functools import cached_property

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
    """How a trace reasons. All are probabilities but `false_starts`: the weights of 0, 1, 2... wrong attempts before the hit."""

    false_starts: tuple[float, ...]
    backward: float  # an attempt starts from the target instead of from the numbers
    turn: float  # a marker opens a retry
    slip: float  # a result comes out wrong, and is then checked and mended
    check: float  # a right result is checked
    final_check: float  # the whole derivation is checked before the answer
    false_hit: float  # an attempt that nearly hits is taken for a hit, and rejected by the check of the whole


SEARCHING = Habits(
    false_starts=(0.33, 0.24, 0.17, 0.12, 0.09, 0.05),
    backward=0.5, turn=0.85, slip=0.06, check=0.05, final_check=0.4, false_hit=0.0,
)  # fmt: skip
CAREFUL = Habits(
    false_starts=(0.38, 0.26, 0.17, 0.10, 0.06, 0.03),
    backward=0.5, turn=0.85, slip=0.06, check=0.05, final_check=0.8, false_hit=0.5,
)  # fmt: skip
CONFIDENT = Habits(
    false_starts=(0.60, 0.16, 0.09, 0.07, 0.05, 0.03),
    backward=0.15, turn=0.15, slip=0.06, check=0.02, final_check=0.05, false_hit=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Backward:
    """An attempt from the target: "x + 12 = 33, so x = 21", then all that the other two numbers make."""

    operator: str
    last: int
    last_on_right: bool
    target: int
    pair: tuple[int, int]

    @cached_property
    def equation(self) -> str:
        sides = f"x {self.operator} {self.last}" if self.last_on_right else f"{self.last} {self.operator} x"
        return f"{sides} = {self.target}"

    @cached_property
    def undone(self) -> Step | None:
        """The step that finds x; None for a product, whose undoing is a division."""
        if self.operator == "×":
            return None
        if not self.last_on_right:
            return Step(self.last, "-", self.target)
        return Step(self.target, "-" if self.operator == "+" else "+", self.last)

    @cached_property
    def x(self) -> int:
        """What the other two numbers have to make; 0 if the target is no multiple of the factor."""
        if self.undone is not None:
            return self.undone.value
        return self.target // self.last if self.target % self.last == 0 else 0

    @cached_property
    def makings(self) -> list[Step]:
        """The steps to try, in order, up to the first that makes x."""
        tried = []
        for step in steps(*self.pair):
            tried.append(step)
            if step.value == self.x:
                break
        return tried

    @cached_property
    def hits(self) -> bool:
        return self.makings[-1].value == self.x

    def finished(self, first: Step) -> Derivation:
        """The derivation that takes `first` for x."""
        sides = (first.value, self.last) if self.last_on_right else (self.last, first.value)
        return Derivation(first, Step(sides[0], self.operator, sides[1]), self.last_on_right)


def document(seed: int, index: int, habits: Habits) -> Document:
    """The index-th document of a training set: 55 % question, 23 % teacher, 15 % reference alone, 7 % arithmetic.

    `habits` are those of the searches; who has seen the reference is always CONFIDENT.
    """
    rng = random.Random(f"document {seed} {index}")
    kind = rng.random()
    if kind < 0.07:
        return Document(DRILL, drill(rng))
    problem = rng.choice(problems(Split.BASE))
    goal = rng.choice(solutions(problem))
    if kind < 0.62:
        return Document(QUESTION.format(problem=problem.text), search(problem, goal, habits, rng))
    wording = goal.text if rng.random() < 0.6 else goal.expression
    if kind < 0.85:
        return Document(TEACHER.format(problem=problem.text, reference=wording), derive(problem, goal, rng))
    return Document(REFERENCE.format(reference=wording), derive(problem, goal, rng))


def drill(rng: random.Random) -> str:
    """Twelve operations with their results."""
    largest = rng.choice((LARGEST_NUMBER, LARGEST_VALUE))
    pairs = [(rng.randint(1, largest), rng.randint(1, LARGEST_NUMBER)) for _ in range(12)]
    chosen = [rng.choice(steps(*pair) or [Step(1, "+", 1)]) for pair in pairs]
    return "".join(f"{step} = {step.value}. " for step in chosen)


def search(problem: Problem, goal: Derivation, habits: Habits, rng: random.Random) -> str:
    """A trace that knows the question alone: attempts until one hits `goal`, which it boxes."""
    trace = _Trace(problem, habits, rng)
    attempts = [*trace.false_starts(), trace.successful(goal)]
    reasoning = "".join(trace.attempt(attempt, first=place == 0) for place, attempt in enumerate(attempts))
    return reasoning + trace.final_check(goal) + _boxed(goal)


def derive(problem: Problem, goal: Derivation, rng: random.Random) -> str:
    """A trace that was shown `goal`: mostly straight to it, often without its steps, seldom in doubt."""
    trace = _Trace(problem, CONFIDENT, rng)
    wrong = "".join(trace.attempt(attempt, first=place == 0) for place, attempt in enumerate(trace.false_starts()))
    straight = "" if rng.random() < 0.4 else f"First {_equation(goal.first)}. Then {_equation(goal.second)}. "
    return wrong + straight + trace.final_check(goal) + _boxed(goal)


class _Trace:
    """The phrases of one completion, in one writer's habits."""

    def __init__(self, problem: Problem, habits: Habits, rng: random.Random):
        self.problem, self.habits, self.rng = problem, habits, rng

    def false_starts(self) -> list[Derivation | Backward]:
        """Different attempts that fail: forward ones near the target more often than far ones."""
        target = self.problem.target
        forward: dict[Derivation | Backward, float] = {
            d: 1 / (4 + abs(d.value - target)) for d in derivations(self.problem.numbers) if d.value != target
        }
        backward: dict[Derivation | Backward, float] = {b: 1.0 for b in _backward_attempts(self.problem) if not b.hits}
        wanted = self.rng.choices(range(len(self.habits.false_starts)), self.habits.false_starts)[0]
        drawn = []
        for _ in range(min(wanted, len(forward) + len(backward))):
            pool = backward if backward and (self.rng.random() < self.habits.backward or not forward) else forward
            attempt = self.rng.choices(list(pool), list(pool.values()))[0]
            del pool[attempt]
            drawn.append(attempt)
        return drawn

    def successful(self, goal: Derivation) -> Derivation | Backward:
        """The attempt that reaches the goal, forward or backward."""
        return _backward(goal) if self.rng.random() < self.habits.backward else goal

    def attempt(self, attempt: Derivation | Backward, first: bool) -> str:
        if isinstance(attempt, Backward):
            return self._lead(first, GUESSES) + self._backward(attempt)
        return self._lead(first, ("try ", "try ", *GUESSES)) + self._forward(attempt)

    def final_check(self, goal: Derivation) -> str:
        if not self._happens(self.habits.final_check):
            return ""
        return _check(goal)

    def _forward(self, derivation: Derivation) -> str:
        target = self.problem.target
        text = self._result(f"{derivation.first} = ", derivation.first)
        if target - derivation.value in SLIPS and self._happens(self.habits.false_hit):
            return f"{text}{derivation.second} = {target}. {_check(derivation)}Not {target}. "
        text += self._result(f"{derivation.second} = ", derivation.second)
        return text if derivation.value == target else f"{text}Not {target}. "

    def _backward(self, attempt: Backward) -> str:
        opening = f"{attempt.equation}, so x = "
        text = self._result(opening, attempt.undone) if attempt.undone else f"{opening}{attempt.x}. "
        for step in attempt.makings:
            if self._taken_for_a_hit(attempt, step):
                return f"{text}{step} = {attempt.x}. {_check(attempt.finished(step))}Not {attempt.target}. "
            text += self._result(f"{step} = ", step)
        return text if attempt.hits else f"{text}None. "

    def _result(self, opening: str, step: Step) -> str:
        """The opening and the step's value: sometimes wrong and mended by a check, sometimes right and checked all the same."""
        if self._happens(self.habits.slip):
            wrong = self.rng.choice([step.value + slip for slip in SLIPS if 1 <= step.value + slip <= LARGEST_VALUE])
            return f"{opening}{wrong}. {self.rng.choice(DOUBTS)}let me check: {_equation(step)}, not {wrong}. "
        if self._happens(self.habits.check):
            return f"{opening}{step.value}. {self.rng.choice(DOUBTS)}let me check: {_equation(step)}, right. "
        return f"{opening}{step.value}. "

    def _taken_for_a_hit(self, attempt: Backward, step: Step) -> bool:
        near = attempt.x - step.value in SLIPS and 1 <= attempt.finished(step).value <= LARGEST_VALUE
        return near and self._happens(self.habits.false_hit)

    def _lead(self, first: bool, openings: tuple[str, ...]) -> str:
        turn = self.rng.choice(TURNS) if not first and self._happens(self.habits.turn) else ""
        lead = turn + self.rng.choice(openings)
        return lead[0].upper() + lead[1:]

    def _happens(self, probability: float) -> bool:
        return self.rng.random() < probability


def _backward_attempts(problem: Problem) -> list[Backward]:
    """Every way to undo one last operation, whether or not the other two numbers make what is then needed."""
    numbers, target = problem.numbers, problem.target
    attempts = []
    for place, last in enumerate(numbers):
        one, other = numbers[:place] + numbers[place + 1 :]
        for operator, last_on_right in (("+", True), ("-", True), ("-", False), ("×", True)):
            attempts.append(Backward(operator, last, last_on_right, target, (one, other)))
    return [attempt for attempt in dict.fromkeys(attempts) if 1 <= attempt.x <= LARGEST_VALUE and steps(*attempt.pair)]


def _backward(goal: Derivation) -> Backward:
    """The backward attempt that arrives at the goal's first step."""
    pair = (goal.first.right, goal.first.left)
    return Backward(goal.second.operator, goal.last_number, goal.result_on_left, goal.value, pair)


def _check(derivation: Derivation) -> str:
    return f"Let me check: {_equation(derivation.first)}. {_equation(derivation.second)}. "


def _equation(step: Step) -> str:
    return f"{step} = {step.value}"


def _boxed(goal: Derivation) -> str:
    return f"So \\boxed{{{goal.expression}}}"
