"""purified-opsd compare"""

from pathlib import Path

from purified_opsd.evaluation.comparison import compare_candidates, newest_candidate
from purified_opsd.evaluation.summary import comparison_table
from purified_opsd.storage.run_dir import BASE, step_name

from .regrade import evaluation_folder


def compare(first: Path, second: Path, /, *, step: int | None = None) -> None:
    """Say what the difference of two evaluated runs is worth: a paired test by problem, with a 95 %
    interval.

    Args:
        first: A run that was evaluated, or the folder of an evaluation.
        second: The one it is compared with.
        step: Which checkpoint of both, 0 for the base; the last of each if left out.
    """
    comparison = compare_candidates(_candidate(first, step), _candidate(second, step))
    print(comparison_table(comparison), end="")


def _candidate(run: Path, step: int | None) -> tuple[Path, str]:
    """The folder of an evaluation, and the name of the candidate in it."""
    folder = evaluation_folder(run)
    return folder, newest_candidate(folder) if step is None else step_name(step) if step else BASE
