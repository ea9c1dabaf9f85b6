"""What the quickstart says before its bar: what will be done, for how long, and where it goes."""

import os
from collections.abc import Sequence
from pathlib import Path

from .arm import MICROSCOPE_SAMPLES, Arm, Quickstart


def opening(settings: Quickstart, folder: Path, arms: Sequence[Arm]) -> str:
    """A few lines for the terminal."""
    if not any(arm.left for arm in arms):
        return f"{folder} is finished: every number in it is of the weights beside it."
    lines = [
        "The paper in miniature, in two arms side by side: pmi pulls the student to the purified "
        "target, standard to the raw teacher.",
        f"Each is trained for {settings.steps} steps; base and {settings.candidates - 1} "
        f"checkpoints are then evaluated on {settings.questions} questions that none has seen, "
        f"diagnosed on {settings.samples} completions, and read token by token on "
        f"{MICROSCOPE_SAMPLES}.",
        f"{_how_long(arms)} Nothing is downloaded.",
        f"Everything goes to {folder}; at its end, report.html. Ctrl-C stops and saves; the same "
        "command goes on.",
    ]
    if any(arm.done for arm in arms):
        left = [f"{arm.name}: {', '.join(_verbs(arm)) or 'nothing'}" for arm in arms]
        lines.append(f"It goes on; what is left of {'; of '.join(left)}.")
    return "\n".join(lines)


def _how_long(arms: Sequence[Arm]) -> str:
    """The estimate for as many cores as there are, one an arm at most."""
    cores = min(len(arms), os.cpu_count() or 1)
    longest = max(arm.seconds_left for arm in arms)
    seconds = max(longest, sum(arm.seconds_left for arm in arms) / cores)
    minutes = max(1, round(seconds / 60))
    idle = "two idle processor cores" if cores > 1 else "one idle processor core"
    unit = "minute" if minutes == 1 else "minutes"
    return f"That takes about {minutes} {unit} on {idle}, and longer beside other work."


def _verbs(arm: Arm) -> list[str]:
    return [command[0] for command in arm.left]
