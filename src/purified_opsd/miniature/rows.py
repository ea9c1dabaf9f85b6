"""Rows of the miniature's task in the columns of any set: id, problem, solution, answer.

The shipped distillation set is all rows of its split; evaluation draws from another.
"""

import random

from .task import Problem, Split, problems, reference


def draw_rows(split: Split, seed: int, count: int) -> list[dict[str, str]]:
    """`count` different questions of the split, drawn by seed.

    `solution` is the full reference, `answer` the bare expression. Raises ValueError if the split
    has fewer questions.
    """
    pool = problems(split)
    if not 0 < count <= len(pool):
        raise ValueError(
            f"count must lie in 1..{len(pool)}, got {count}: the split '{split}' holds {len(pool)} "
            "questions, and a row given twice would pass for two. Ask for fewer rows."
        )
    chosen = random.Random(f"rows {seed} {split}").sample(pool, count)
    return [_row(problem, seed) for problem in chosen]


def _row(problem: Problem, seed: int) -> dict[str, str]:
    numbers = "-".join(map(str, problem.numbers))
    solution = reference(problem, seed)
    return {
        "id": f"countdown-{numbers}-{problem.target}",
        "problem": problem.text,
        "solution": solution.text,
        "answer": solution.expression,
    }
