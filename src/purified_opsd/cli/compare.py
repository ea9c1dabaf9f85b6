"""purified-opsd compare"""

from pathlib import Path

from purified_opsd.evaluation.comparison import Arm, compare_arms, newest_candidate
from purified_opsd.evaluation.summary import comparison_table

from .regrade import evaluation_folder


def compare(first: Path, second: Path, /, *, step: int | None = None) -> None:
    """What the difference of two evaluated runs is worth: a paired test by problem, with a 95 %
    interval.

    Args:
        first: A run that was evaluated, or the folder of an evaluation.
        second: The one it is compared with.
        step: Which checkpoint of both, 0 for the base; the last of each if left out.
    """
    one, other = _arm(first, step), _arm(second, step)
    print(comparison_table(one, other, compare_arms(one, other)), end="")


def _arm(run: Path, step: int | None) -> Arm:
    folder = evaluation_folder(run)
    if step is None:
        return Arm(folder, newest_candidate(folder))
    return Arm(folder, f"step-{step:06d}" if step else "base")
