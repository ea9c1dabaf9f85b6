"""Grades of completions: correct, incorrect, or not graded, with the reason."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from purified_opsd import miniature

from .based_numbers import bases_of, has_unread_base, read_bases
from .boxed_answer import (
    DEEPEST,
    LONGEST,
    depth,
    find_boxes,
    integer,
    may_be_list,
    plain,
)
from .notation import read_notation
from .pool import Died, Limits, shared_workers
from .readings import readings

AT_ONCE = min(4, os.cpu_count() or 1)
"""The number of answers that are graded side by side."""

Verdict = Literal["correct", "incorrect", "ungraded"]


@dataclass(frozen=True)
class Grade:
    """A verdict, the reason where there is none, and the answer that was graded."""

    verdict: Verdict
    reason: str = ""
    answer: str | None = None

    @property
    def correct(self) -> bool:
        """Ungraded counts as not correct wherever an accuracy is taken."""
        return self.verdict == "correct"


class Grader(Protocol):
    """Grades one attempt at a problem.  It may be called from several threads at once, and never
    raises for anything in `text`.
    """

    def __call__(self, problem: str, gold: str, text: str) -> Grade: ...


def grade_all(grader: Grader, attempts: Sequence[tuple[str, str, str]]) -> list[Grade]:
    """The grade of each (problem, gold, text), several at once, so that a slow one does not hold up
    the others.
    """
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda attempt: grader(*attempt), attempts))


class CountdownGrader:
    """The miniature's exact grader: any expression that solves the problem is right, so the gold
    answer is not looked at.
    """

    def __call__(self, problem: str, gold: str, text: str) -> Grade:
        answer, cut_off = find_boxes(text)
        if cut_off:  # the miniature's grader looks at the last box, whether it closes or not
            return Grade("ungraded", "cut off")
        if answer is None:
            return Grade("ungraded", "no box")
        correct = miniature.grade(problem, f"\\boxed{{{answer}}}")
        return Grade("correct" if correct else "incorrect", answer=answer)


@dataclass(frozen=True)
class MathGrader:
    """Compares the last box with the gold answer: as whole numbers, as text, and else as
    mathematics, in a process with limits (docs/evaluation.md).

    Called with problem, gold answer and completion; gives a `Grade`, and never raises for anything
    in the completion.
    """

    limits: Limits = Limits()

    def __call__(self, problem: str, gold: str, text: str) -> Grade:
        answer, cut_off = find_boxes(text)
        if answer is None:
            return Grade("ungraded", "cut off" if cut_off else "no box")
        longest = max(LONGEST, 2 * len(gold))
        if len(answer) > longest:
            return Grade("ungraded", "too long", answer[:longest])
        if depth(answer) > DEEPEST:
            return Grade("ungraded", "too deep", answer)
        try:
            same = self._same(read_notation(gold), read_notation(answer))
        except Died as death:
            return Grade("ungraded", str(death), answer)
        return Grade("correct" if same else "incorrect", answer=answer)

    def _same(self, gold: str, answer: str) -> bool:
        """Are the two the same answer?  Raises Died where a limit ends the comparison."""
        if bases_of(gold) and bases_of(gold) != bases_of(answer):
            return False  # the base is asked for
        gold, answer = read_bases(gold), read_bases(answer)
        gold_number, number = integer(gold), integer(answer)
        both_numbers = gold_number is not None and number is not None
        if both_numbers and not may_be_list(gold):
            return gold_number == number
        if (gold_number is None) == (number is None) and plain(gold) == plain(answer):
            return True
        if has_unread_base(gold) or has_unread_base(answer):
            return False
        workers = shared_workers(AT_ONCE, self.limits)
        return any(workers.same(*pair) for pair in readings(gold, answer))


def grade(text: str, gold: str) -> Grade:
    """Grades the last box of a text against the gold answer, as mathematics."""
    return MathGrader()("", gold, text)
