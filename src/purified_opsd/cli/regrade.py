"""purified-opsd regrade"""

from pathlib import Path

from purified_opsd.evaluation.regrade import regrade as grade_again
from purified_opsd.evaluation.summary import table


def regrade(run: Path, /, *, grader: str | None = None) -> None:
    """Grade the samples of an evaluation again, without drawing any.

    Args:
        run: A run that was evaluated, or the folder of an evaluation.
        grader: A grader of your own for benchmarks by path or hub id, MODULE:NAME; the one that
            graded them before if left out.
    """
    folder = evaluation_folder(run)
    changes, results = grade_again(folder, grader)
    for (before, after), count in sorted(changes.items()):
        print(f"{count} from {before} to {after}")
    print(f"{sum(changes.values())} grades changed.\n\n{table(results)}", end="")


def evaluation_folder(run: Path) -> Path:
    """Returns where the samples of a run are; the folder itself where it is no run."""
    return run / "evaluation" if (run / "evaluation").is_dir() else run
