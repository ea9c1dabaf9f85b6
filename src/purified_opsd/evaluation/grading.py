"""What a completion's answer is worth: correct, incorrect, or not graded, with the reason."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from purified_opsd.miniature.task import grade as solves

from .boxes import ends_in_a_box, last_box

AT_ONCE = 4
"""Answers graded side by side."""

Verdict = Literal["correct", "incorrect", "ungraded"]


@dataclass(frozen=True)
class Grade:
    """A verdict; where there is none, the reason; and the answer that was found."""

    verdict: Verdict
    reason: str = ""
    answer: str | None = None

    @property
    def correct(self) -> bool:
        """Ungraded counts as not correct wherever an accuracy is taken."""
        return self.verdict == "correct"


class Grader(Protocol):
    """Grades what was written to one problem.  May be called from several threads at once; never raises for what is in `text`."""

    def __call__(self, problem: str, gold: str, text: str) -> Grade: ...


def grade_all(grader: Grader, attempts: Sequence[tuple[str, str, str]]) -> list[Grade]:
    """The grade of each (problem, gold, text), several at once, so that a slow one does not hold up the others."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda attempt: grader(*attempt), attempts))


class CountdownGrader:
    """The miniature's exact grader: any expression that solves the problem is right, so the gold answer is not looked at."""

    def __call__(self, problem: str, gold: str, text: str) -> Grade:
        if ends_in_a_box(text):  # the miniature's grader looks at the last box, whether it closes or not
            return Grade("ungraded", "cut off")
        answer = last_box(text)
        if answer is None:
            return Grade("ungraded", "no box")
        return Grade("correct" if solves(problem, text) else "incorrect", answer=answer)


class MathGrader:
    """Compares the last box with the gold answer as mathematics."""

    def __call__(self, problem: str, gold: str, text: str) -> Grade:
        answer = last_box(text)
        if answer is None:
            return Grade("ungraded", "cut off" if ends_in_a_box(text) else "no box")
        return Grade("correct" if answer == gold else "incorrect", answer=answer)
