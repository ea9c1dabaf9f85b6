"""Training rows whose answer is not what their own solution comes to."""

from collections.abc import Sequence
from dataclasses import dataclass

from purified_opsd.data.dataset import Example
from purified_opsd.evaluation.grading.boxed_answer import find_boxes
from purified_opsd.evaluation.grading.graders import Grade, Grader, MathGrader, grade_all

from .prepare import Finding


@dataclass(frozen=True)
class AnswerMismatch:
    """Drops a row whose answer disagrees with the last box of its solution.

    Where that cannot be told, the row stays with a remark.
    """

    grader: Grader = MathGrader()

    def __call__(self, examples: Sequence[Example]) -> Sequence[Finding | None]:
        with_answer = [example for example in examples if example.answer is not None]
        pairs = [
            (example.problem, _unboxed(example.answer or ""), example.reference)
            for example in with_answer
        ]
        grades = grade_all(self.grader, pairs)
        findings = {
            example.id: _finding(example, grade)
            for example, grade in zip(with_answer, grades, strict=True)
        }
        return [findings.get(example.id) for example in examples]


def _unboxed(answer: str) -> str:
    """Some sets write the answer in a box as well."""
    return find_boxes(answer).answer or answer


def _finding(example: Example, grade: Grade) -> Finding | None:
    if grade.correct:
        return None
    if grade.verdict != "incorrect":
        return Finding("answer not compared with a box", grade.reason, drops=False)
    detail = f"the answer is {example.answer}, the last box of the solution holds {grade.answer}"
    return Finding("answer disagrees with the last box", detail, drops=True)
