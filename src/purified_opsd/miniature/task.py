"""Countdown: use three numbers once each, with +, - and ×, to make a target.

Generator, splits and exact grader.

A question has many wrong turnings and a certain answer, so a small model can search it, fail, and
be graded without doubt. All is a function of its arguments: no state, no clock, no global random
numbers.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from itertools import combinations_with_replacement

LARGEST_NUMBER = 20
LARGEST_VALUE = 99
OPERATORS = ("+", "-", "×")

_QUESTION = re.compile(r"Use (\d+), (\d+) and (\d+) once each with \+, - and × to make (\d+)\.")
_BOX = "\\boxed{"
_SPELLINGS = {"\\times": "×", "\\cdot": "×", "*": "×", "−": "-", "–": "-"}
_SYMBOL = re.compile(r"[0-9]+|[-+×()]")
_LONGEST_EXPRESSION = 100


class Split(StrEnum):
    """Who may see a question. A question's split is fixed by a hash of its numbers and target."""

    BASE = "base"
    DISTILLATION = "distillation"
    EVALUATION = "evaluation"


@dataclass(frozen=True, order=True)
class Problem:
    """Three numbers in rising order and the target to make of them."""

    numbers: tuple[int, int, int]
    target: int

    @cached_property
    def text(self) -> str:
        first, second, third = self.numbers
        return f"Use {first}, {second} and {third} once each with +, - and × to make {self.target}."

    @cached_property
    def digest(self) -> int:
        return int.from_bytes(hashlib.sha256(self.text.encode()).digest()[:8])

    @cached_property
    def split(self) -> Split:
        """70 % of all questions are for the base, 15 % for distillation, 15 % for evaluation."""
        bucket = self.digest % 100
        if bucket < 70:
            return Split.BASE
        return Split.DISTILLATION if bucket < 85 else Split.EVALUATION


@dataclass(frozen=True)
class Step:
    """One operation, for example 3 × 7."""

    left: int
    operator: str
    right: int

    @cached_property
    def value(self) -> int:
        if self.operator == "+":
            return self.left + self.right
        return self.left - self.right if self.operator == "-" else self.left * self.right

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True)
class Derivation:
    """Two steps that use three numbers once each.

    The second one takes the first one's result as `left` or `right`.
    """

    first: Step
    second: Step
    result_on_left: bool

    @cached_property
    def value(self) -> int:
        return self.second.value

    def second_from(self, result: int) -> Step:
        """The second step, had the first one given `result`."""
        if self.result_on_left:
            return Step(result, self.second.operator, self.second.right)
        return Step(self.second.left, self.second.operator, result)

    @property
    def last_number(self) -> int:
        """The number that only the second step uses."""
        return self.second.right if self.result_on_left else self.second.left

    @property
    def expression(self) -> str:
        """The answer as it stands in the box, for example "(3 × 7) + 12"."""
        if self.result_on_left:
            return f"({self.first}) {self.second.operator} {self.last_number}"
        return f"{self.last_number} {self.second.operator} ({self.first})"

    @property
    def text(self) -> str:
        """The reference solution."""
        first, second = self.first, self.second
        return (
            f"{first} = {first.value}. {second} = {second.value}. So \\boxed{{{self.expression}}}"
        )


def steps(one: int, other: int) -> list[Step]:
    """The operations on two numbers whose result lies in 1..99.

    The larger number stands on the left.
    """
    low, high = sorted((one, other))
    candidates = [Step(high, operator, low) for operator in OPERATORS]
    return [step for step in candidates if 1 <= step.value <= LARGEST_VALUE]


@cache
def derivations(numbers: tuple[int, int, int]) -> tuple[Derivation, ...]:
    """Every way to use the three numbers once each with all results in 1..99."""
    distinct: dict[Derivation, None] = {}
    for index, last in enumerate(numbers):
        one, other = numbers[:index] + numbers[index + 1 :]
        for first in steps(one, other):
            distinct |= dict.fromkeys(_second_steps(first, last))
    return tuple(distinct)


def problems(split: Split) -> tuple[Problem, ...]:
    """Every question of the split, in the order of their digests."""
    return _pools()[split]


def solutions(problem: Problem) -> tuple[Derivation, ...]:
    """Every derivation that reaches the target; at least one for a problem from `problems`."""
    return tuple(
        derivation
        for derivation in derivations(problem.numbers)
        if derivation.value == problem.target
    )


def reference(problem: Problem, seed: int) -> Derivation:
    """The solution that the problem's reference shows, drawn by seed."""
    return random.Random(f"reference {seed} {problem.text}").choice(solutions(problem))


def parse(problem_text: str) -> Problem:
    """Reads a problem back from its text, which may stand anywhere in a longer prompt.

    Raises ValueError if the text holds no Countdown question.
    """
    match = _QUESTION.search(problem_text)
    if match is None:
        raise ValueError(
            f"problem text must hold a sentence such as {Problem((3, 7, 12), 33).text!r}, got "
            f"{problem_text[:200]!r}: without numbers and target nothing can be graded. Pass the "
            "row's `problem` as the miniature wrote it."
        )
    *numbers, target = map(int, match.groups())
    low, middle, high = sorted(numbers)
    return Problem((low, middle, high), target)


def grade(problem_text: str, completion_text: str) -> bool:
    """Is what stands in the completion's last `\\boxed{...}` an expression that solves the problem?

    It must use each of the problem's numbers exactly once, with +, - and × only (also written −, *,
    \\times, \\cdot), and make the target; results on the way may be negative. Text that is not such
    an expression is wrong, never an error: no box, a last box cut off, anything but numbers,
    operators and brackets. Only a problem text without a question raises ValueError.
    """
    problem = parse(problem_text)
    symbols = _symbols(_last_box(completion_text))
    used = sorted(int(symbol) for symbol in symbols if symbol.isdigit())
    if used != list(problem.numbers):
        return False
    try:
        return _evaluate(symbols) == problem.target
    except _Malformed:
        return False


class _Malformed(Exception):
    pass


@cache
def _pools() -> dict[Split, tuple[Problem, ...]]:
    pools = {split: [] for split in Split}
    for numbers in combinations_with_replacement(range(1, LARGEST_NUMBER + 1), 3):
        for target in {derivation.value for derivation in derivations(numbers)}:
            problem = Problem(numbers, target)
            pools[problem.split].append(problem)
    return {
        split: tuple(sorted(pool, key=lambda problem: problem.digest))
        for split, pool in pools.items()
    }


def _second_steps(first: Step, last: int) -> Iterator[Derivation]:
    result = first.value
    candidates = [
        Derivation(first, Step(result, operator, last), result_on_left=True)
        for operator in OPERATORS
    ]
    candidates.append(Derivation(first, Step(last, "-", result), result_on_left=False))
    return (candidate for candidate in candidates if 1 <= candidate.value <= LARGEST_VALUE)


def _last_box(text: str) -> str:
    """What stands in the last box; empty if there is none or it does not close."""
    _, box, rest = text.rpartition(_BOX)
    depth = 1 if box else 0
    for index, character in enumerate(rest):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return rest[:index]
    return ""


def _symbols(expression: str) -> list[str]:
    """Numbers, operators and brackets; empty if the text is overlong or holds anything else."""
    if len(expression) > _LONGEST_EXPRESSION:
        return []
    for spelling, operator in _SPELLINGS.items():
        expression = expression.replace(spelling, operator)
    if _SYMBOL.sub("", expression).strip():
        return []
    return _SYMBOL.findall(expression)


def _evaluate(symbols: list[str]) -> int:
    """The value under the usual precedence.  Raises _Malformed.

    There are three short numbers at most, so no value can grow large.
    """
    pending = symbols[::-1]

    def sum_of_products() -> int:
        value = product()
        while pending and pending[-1] in "+-":
            value = Step(value, pending.pop(), product()).value
        return value

    def product() -> int:
        value = operand()
        while pending and pending[-1] == "×":
            value = Step(value, pending.pop(), operand()).value
        return value

    def operand() -> int:
        symbol = pending.pop() if pending else ""
        if symbol.isdigit():
            return int(symbol)
        if symbol != "(":
            raise _Malformed
        value = sum_of_products()
        if not pending or pending.pop() != ")":
            raise _Malformed
        return value

    value = sum_of_products()
    if pending:
        raise _Malformed
    return value
