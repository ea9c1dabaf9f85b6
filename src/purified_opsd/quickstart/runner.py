"""The paper in miniature: both arms side by side, with one bar and one answer to signals.

Imports no torch: the work is done by processes of its own, one an arm, each on its share of the
processor cores.
"""

import json
import math
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from purified_opsd.errors import RunError, Stopped
from purified_opsd.interrupts import StopRequest
from purified_opsd.storage.files import locked, read_json, write_atomic

from .arm import ARMS, Arm, Quickstart
from .opening import opening

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPING_S = 120.0
"""How long the arms may take to save when they are asked to stop."""
LOOK_EVERY_S = 0.25
BAR = "{percentage:3.0f}%|{bar:24}| {elapsed} gone, {remaining} left  {desc}"


class QuickstartStopped(Stopped):
    """A signal has ended it: which, what became of the arms, and the exit code."""

    def __init__(self, number: int, lost: Sequence[str]):
        if lost:
            arms = f"{'; '.join(lost)}: its last steps may be lost, and are taken again"
        else:
            arms = "both arms are saved"
        super().__init__(f"Stopped by {signal.Signals(number).name}; {arms}.", 128 + number)


def run_quickstart(settings: Quickstart, folder: Path) -> None:
    """Does what of it is not done yet.

    However it ends, both arms are asked to save, and have ended, before it returns; signals wait
    for that.  Raises ArmFailed, TimeoutError, QuickstartStopped, or RunError for a folder begun
    otherwise.
    """
    with locked(folder), StopRequest(SIGNALS, grace=math.inf) as stop:
        _begin(settings, folder)
        arms = [Arm(name, settings, folder / name) for name in ARMS]
        print(opening(settings, folder, arms), flush=True)
        if not any(arm.left for arm in arms):
            return
        before, total = sum(arm.done for arm in arms), sum(arm.work for arm in arms)
        with tqdm(initial=round(before), total=round(total), smoothing=0, bar_format=BAR) as bar:
            try:
                for done in _side_by_side(arms, stop):
                    doing = " · ".join(f"{arm.name}: {arm.doing}" for arm in arms)
                    bar.set_description_str(doing, refresh=False)
                    bar.update(round(done) - bar.n)
            finally:
                lost = _stop(arms)
        if stop.signal:
            raise QuickstartStopped(stop.signal, lost)


def _begin(settings: Quickstart, folder: Path) -> None:
    """Writes the settings down.  Raises RunError where the folder was begun with others."""
    record = folder / "quickstart.json"
    if not record.exists():
        write_atomic(record, json.dumps(asdict(settings), indent=2) + "\n")
    before = read_json(record)
    if before != asdict(settings):
        raise RunError(
            f"{folder} was begun with {before}, and {asdict(settings)} is asked for: the numbers "
            "would not go together. Give another --output-dir, or ask for what it was begun with."
        )


def _side_by_side(arms: Sequence[Arm], stop: StopRequest) -> Iterator[float]:
    """Runs both arms at once, until both are done or a signal came; yields the work done so far,
    four times a second.
    """
    busy = list(arms)
    while busy and not stop.signal:
        busy = [arm for arm in busy if arm.advance()]
        yield sum(arm.done for arm in arms)
        time.sleep(LOOK_EVERY_S)
    if not busy:
        yield sum(arm.work for arm in arms)


def _stop(arms: Sequence[Arm]) -> list[str]:
    """Asks all to save, then waits for each; returns what went wrong."""
    for arm in arms:
        arm.ask_to_stop()
    deadline = time.monotonic() + STOPPING_S
    problems = [arm.end(deadline) for arm in arms]
    return [problem for problem in problems if problem]
