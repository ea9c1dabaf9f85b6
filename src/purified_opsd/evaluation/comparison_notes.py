"""What a comparison of two arms is called and says in words: of which questions it is, and what the
difference is worth.
"""

from pathlib import Path

from .comparison import Arm, Comparison, significant_sign
from .statistics import Difference


def arm_names(comparison: Comparison) -> tuple[str, str]:
    """What each arm is called: `RUN/CANDIDATE`, and with the run's whole path where both would be
    called the same.
    """
    first, second = comparison.first, comparison.second
    first_run, second_run = _run_of(first), _run_of(second)
    if (first_run.name, first.candidate) == (second_run.name, second.candidate):
        return f"{first_run}/{first.candidate}", f"{second_run}/{second.candidate}"
    return f"{first_run.name}/{first.candidate}", f"{second_run.name}/{second.candidate}"


def _run_of(arm: Arm) -> Path:
    """The run that was evaluated; the folder itself where the evaluation is of no run."""
    return arm.folder.parent if arm.folder.name == "evaluation" else arm.folder


def shared_notes(comparison: Comparison) -> list[str]:
    """How many questions of each benchmark are shared, and what of each arm is left out."""
    notes = [_shared_note(comparison, benchmark) for benchmark in comparison.shared]
    names = arm_names(comparison)
    arms = (comparison.first, comparison.second)
    for name, arm in zip(names, arms, strict=True):
        alone = [benchmark for benchmark in arm.graded if benchmark not in comparison.shared]
        if alone:
            notes.append(f"Left out: {', '.join(alone)}, on which only {name} was evaluated.")
    return notes


def _shared_note(comparison: Comparison, benchmark: str) -> str:
    both = comparison.shared[benchmark]
    first_name, second_name = arm_names(comparison)
    text = f"{benchmark}: {_count(len(both.first), 'question')} shared"
    alone = {first_name: both.first_alone, second_name: both.second_alone}
    left_out = [f"{count} that only {name} has" for name, count in alone.items() if count]
    text += f"; left out: {' and '.join(left_out)}" if left_out else ""
    first_runs = comparison.first.graded[benchmark].request.runs
    second_runs = comparison.second.graded[benchmark].request.runs
    if first_runs != second_runs:
        text += (
            f"; samples of each question: {first_runs} of {first_name}, {second_runs} of "
            f"{second_name}"
        )
    return f"{text}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def difference_sentences(comparison: Comparison) -> list[str]:
    """What the difference of the arms is worth, in one sentence for each benchmark, and for the
    mean where there are several.
    """
    differences = dict(comparison.by_benchmark)
    if len(differences) > 1:
        differences["the mean"] = comparison.overall
    first_name, second_name = arm_names(comparison)
    return [
        f"{first_name} minus {second_name} on {where}: {_worth(difference)}"
        for where, difference in differences.items()
    ]


def _worth(difference: Difference | None) -> str:
    if difference is None:
        return "too few shared questions to tell."
    verdict = "chance alone could give as much"
    if significant_sign(difference):
        verdict = "more than chance gives one time in twenty"
    return (
        f"{100 * difference.value:+.1f} points (95 % interval {100 * difference.low:+.1f} to "
        f"{100 * difference.high:+.1f}, p = {difference.p_value:.3f}, paired by question): "
        f"{verdict}."
    )


def difference_text(difference: Difference | None) -> str:
    """A difference in points, with its 95 % interval and p-value."""
    if difference is None:
        return "too few problems"
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.value:+.1f} [{low:+.1f}, {high:+.1f}], p = {difference.p_value:.3f}"
