"""What of a row the teacher is shown: the whole solution, its part after the thoughts, or the answer alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WholeSolution:
    """The reference is the whole solution, thoughts included."""

    def __call__(self, solution: str, answer: str | None) -> str:
        return solution


@dataclass(frozen=True)
class AfterThink:
    """The reference is what follows the solution's last `</think>`."""

    def __call__(self, solution: str, answer: str | None) -> str:
        if "</think>" not in solution:
            raise ValueError("its solution holds no '</think>'; take the whole solution as the reference")
        return solution.rsplit("</think>", 1)[1].strip()


@dataclass(frozen=True)
class AnswerOnly:
    """The reference is the final answer alone."""

    def __call__(self, solution: str, answer: str | None) -> str:
        if answer is None:
            raise ValueError("it has no answer; name the answer's column, or take the whole solution as the reference")
        return f"The final answer is \\boxed{{{answer}}}."


Reference = WholeSolution | AfterThink | AnswerOnly
