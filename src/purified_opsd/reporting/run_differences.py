"""What the runs of a report differ by: the last checkpoint of the first against each other one's,
on the questions that both have, as `purified-opsd compare` tests it.
"""

from collections.abc import Sequence
from statistics import fmean

from purified_opsd.errors import RunError
from purified_opsd.evaluation.comparison import ByProblem, Comparison, compare_candidates
from purified_opsd.evaluation.comparison_notes import difference_text, shared_notes
from purified_opsd.storage.run_dir import step_name

from .elements import Table
from .run_completions import EVALUATION
from .runs import RunRecord

HEADER = (
    "",
    "benchmark",
    "questions shared",
    "accuracy, %",
    "the other's, %",
    "difference, points [95 %], p",
)
CAPTION = (
    "The last checkpoint of the first run minus that of each other, question by question; "
    "accuracies and difference are of the questions that both have (paired permutation test, as "
    "`purified-opsd compare` makes it)."
)


def run_differences(runs: Sequence[RunRecord]) -> Table | None:
    """None where fewer than two runs have an evaluated checkpoint."""
    evaluated = [run for run in runs if _last_step(run)]
    if len(evaluated) < 2:
        return None
    rows: list[list[str]] = []
    notes: list[str] = []
    for other in evaluated[1:]:
        try:
            comparison = _compare(evaluated[0], other)
        except RunError as error:
            notes.append(f"{other.name} is not compared: {error}")
            continue
        rows += _rows(f"{_label(evaluated[0])} − {_label(other)}", comparison)
        notes += shared_notes(comparison)
    caption = " ".join([CAPTION, *dict.fromkeys(notes)])
    return Table("What the runs differ by", caption, HEADER, rows)


def _compare(first: RunRecord, other: RunRecord) -> Comparison:
    """Raises RunError where the two were not asked alike, or have no question in common."""
    arms = [(run.folder / EVALUATION, step_name(_last_step(run))) for run in (first, other)]
    return compare_candidates(arms[0], arms[1])


def _last_step(run: RunRecord) -> int:
    """The last checkpoint that was evaluated; 0 where none was."""
    return max((step for by_step in run.scores.values() for step in by_step), default=0)


def _label(run: RunRecord) -> str:
    return f"{run.name}, step {_last_step(run)}"


def _rows(label: str, comparison: Comparison) -> list[list[str]]:
    """A row a benchmark, and one of their mean where there are several."""
    rows = []
    for benchmark, both in comparison.shared.items():
        difference = difference_text(comparison.by_benchmark[benchmark])
        counted = [str(len(both.first)), _mean([both.first]), _mean([both.second])]
        rows.append([label, benchmark, *counted, difference])
    if len(rows) > 1:
        ours = [both.first for both in comparison.shared.values()]
        theirs = [both.second for both in comparison.shared.values()]
        counted = [str(sum(map(len, ours))), _mean(ours), _mean(theirs)]
        rows.append([label, "mean", *counted, difference_text(comparison.overall)])
    return rows


def _mean(accuracies: Sequence[ByProblem]) -> str:
    """The mean over benchmarks of the mean over questions, in percent."""
    return f"{100 * fmean(fmean(by_problem.values()) for by_problem in accuracies):.1f}"
