"""What a completion's answer is worth: correct, incorrect, or not graded, with the reason."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from purified_opsd import miniature

from .boxed_answer import (
    DEEPEST,
    LONGEST,
    depth,
    find_boxes,
    integer,
    parts,
    plain,
    ungrouped,
    unstyled,
)
from .pool import Died, Limits, shared_workers

AT_ONCE = min(4, os.cpu_count() or 1)
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
    """Grades what was written to one problem.  May be called from several threads at once; never
    raises for what is in `text`.
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
        return Grade("correct" if miniature.grade(problem, text) else "incorrect", answer=answer)


@dataclass(frozen=True)
class MathGrader:
    """Compares the last box with the gold answer: as whole numbers, as text, and else as
    mathematics, in a process with limits.
    """

    limits: Limits = Limits()

    def __call__(self, problem: str, gold: str, text: str) -> Grade:
        answer, cut_off = find_boxes(text)
        if answer is None:
            return Grade("ungraded", "cut off" if cut_off else "no box")
        if len(answer) > LONGEST:
            return Grade("ungraded", "too long", answer[:LONGEST])
        if depth(answer) > DEEPEST:
            return Grade("ungraded", "too deep", answer)
        try:
            return Grade("correct" if self._same(gold, answer) else "incorrect", answer=answer)
        except Died as death:
            return Grade("ungraded", str(death), answer)

    def _same(self, gold: str, answer: str) -> bool:
        """Raises Died where it stays open."""
        gold, answer = unstyled(gold), unstyled(answer)
        wanted, got = integer(gold), integer(answer)
        if wanted is not None and got is not None:
            return wanted == got
        if plain(gold) == plain(answer):
            return True
        wanted_parts = parts(ungrouped(gold))
        got_parts = parts(answer if len(wanted_parts) > 1 else ungrouped(answer))
        return shared_workers(AT_ONCE, self.limits).same(wanted_parts, got_parts)


def grade(text: str, gold: str) -> Grade:
    """What the last box of a text is worth beside the gold answer."""
    return MathGrader()("", gold, text)
