r"""Grades of answers to multiple-choice questions: a letter in the last box."""

import re
from dataclasses import dataclass

from .boxed_answer import LONGEST, find_boxes
from .graders import Grade
from .notation import without_style

_LETTER = re.compile(
    r"(?:.*\banswer\b(?:\s+is)?\s*:?\s*)?(?:(?:option|choice)\s+)?"
    r"[(\[]?\s*([A-Za-z])(?:\s*[)\].:]+(?:\s.*)?)?",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class LetterGrader:
    r"""Compares the letter in the last box with the gold one: `B`, `(B)`, `B.`, `\text{B}` and
    `(B) its text` are one.  An option's text without its letter is not graded.
    """

    def __call__(self, problem: str, gold: str, text: str) -> Grade:
        answer, cut_off = find_boxes(text)
        if answer is None:
            return Grade("ungraded", "cut off" if cut_off else "no box")
        if len(answer) > LONGEST:
            return Grade("ungraded", "too long", answer[:LONGEST])
        letter = _LETTER.fullmatch(without_style(answer))
        if not letter:
            return Grade("ungraded", "no letter", answer)
        same = letter.group(1).upper() == gold.strip().upper()
        return Grade("correct" if same else "incorrect", answer=answer)
