"""Rows of the miniature's task in the columns of any training or evaluation set: id, problem, solution, answer."""

import json
import random
from pathlib import Path

from .task import Split, problems, reference


def rows(split: Split, seed: int, count: int) -> list[dict[str, str]]:
    """`count` different questions of the split, drawn by seed; `solution` is the full reference, `answer` the bare expression.

    Raises ValueError if the split has fewer questions.
    """
    pool = problems(split)
    if not 0 < count <= len(pool):
        raise ValueError(
            f"count must lie in 1..{len(pool)}, got {count}: the split '{split}' holds {len(pool)} questions, and a row given "
            "twice would pass for two. Ask for fewer rows."
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


def write_distillation_set(path: Path, seed: int, count: int) -> None:
    """Writes `count` rows for on-policy distillation as JSONL; the base has seen none of these questions."""
    _write(path, rows(Split.DISTILLATION, seed, count))


def write_evaluation_set(path: Path, seed: int, count: int) -> None:
    """Writes `count` held-out rows as JSONL; neither the base nor a distilled student has seen these questions."""
    _write(path, rows(Split.EVALUATION, seed, count))


def _write(path: Path, written: list[dict[str, str]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in written)
    Path(path).write_text("".join(lines), encoding="utf-8")
