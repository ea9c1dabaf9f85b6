"""Rows of the miniature's task in the columns of any training or evaluation set: id, problem,
solution, answer.
"""

import random

from .task import Split, problems, reference


def rows(split: Split, seed: int, count: int) -> list[dict[str, str]]:
    """`count` different questions of the split, drawn by seed; `solution` is the full reference,
    `answer` the bare expression.

    Raises ValueError if the split has fewer questions.
    """
    pool = problems(split)
    if not 0 < count <= len(pool):
        raise ValueError(
            f"count must lie in 1..{len(pool)}, got {count}: the split '{split}' holds {len(pool)} "
            "questions, and a row given twice would pass for two. Ask for fewer rows."
        )
    chosen = random.Random(f"rows {seed} {split}").sample(pool, count)
    return [
        {
            "id": f"countdown-{'-'.join(map(str, problem.numbers))}-{problem.target}",
            "problem": problem.text,
            "solution": reference(problem, seed).text,
            "answer": reference(problem, seed).expression,
        }
        for problem in chosen
    ]
