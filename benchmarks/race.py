"""Contenders against each other on a machine that is never quiet.

Each contender lives in its own process, so that its peak memory is its own. They take turns, one at
a time; a ratio is the median over the rounds of a contender's seconds and the floor's in the same
round, which a slow minute of the machine slows alike.
"""

import ctypes
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch

DEADLINE_S = 3600.0
"""For one turn of one contender, compiling included."""

Build = Callable[[Any], Callable[[], Any]]
"""From a case to the work that is timed, whose result is sent back.  A plain function: another
process finds it by its name.
"""


@dataclass(frozen=True)
class Lane:
    """What one contender did."""

    seconds: list[float]
    peak_bytes: int
    """Most memory above what it held before its timed turns.

    On a CPU it is what was resident, on a GPU what was allocated.
    """
    results: list[Any]

    def ratios(self, other: "Lane") -> list[float]:
        """Its seconds to the other's, round by round."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return [mine / theirs for mine, theirs in pairs]

    def ratio(self, other: "Lane") -> float:
        """Its seconds to the other's: the median of the rounds' ratios."""
        return median(self.ratios(other))


def race(contenders: Mapping[str, Build], case: Any, rounds: int) -> dict[str, Lane]:
    """Every contender once to warm up, then `rounds` times in turn.

    A contender that fails is left out, and said so.
    """
    started = _start(contenders, case)
    turns: dict[str, list[tuple[float, Any]]] = {name: [] for name in started}
    for _ in range(rounds):
        for name, (process, connection) in started.items():
            connection.send("go")
            turns[name].append(_receive(name, process, connection))
    lanes = {}
    for name, (process, connection) in started.items():
        connection.send("stop")
        peak = _receive(name, process, connection)
        seconds = [turn_seconds for turn_seconds, _ in turns[name]]
        results = [result for _, result in turns[name]]
        lanes[name] = Lane(seconds, peak, results)
        process.join(DEADLINE_S)
    return lanes


def _start(contenders: Mapping[str, Build], case: Any) -> dict[str, tuple[Any, Connection]]:
    """Starts a process for each; they import side by side and warm up one after another."""
    context = multiprocessing.get_context("spawn")
    started: dict[str, tuple[Any, Connection]] = {}
    for name, build in contenders.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_lane, args=(theirs, build, case), daemon=True)
        process.start()
        started[name] = process, ours
    for name, (process, connection) in list(started.items()):
        connection.send("warm up")
        if problem := _receive(name, process, connection):
            print(f"{name} is left out: {problem}", file=sys.stderr)
            process.join(DEADLINE_S)
            del started[name]
    return started


def _receive(name: str, process: Any, connection: Connection) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not connection.poll(1.0):
        if not process.is_alive() and not connection.poll(0):
            raise RuntimeError(
                f"The contender {name} ended with exit code {process.exitcode} before it answered."
            )
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError(f"The contender {name} has not answered for {DEADLINE_S:.0f} s.")
    return connection.recv()


def _lane(connection: Connection, build: Build, case: Any) -> None:
    """A contender's process."""
    cuda = case.device == "cuda"
    connection.recv()
    try:
        run = build(case)
        run()
    except Exception as error:  # the race goes on without a peer that cannot run here
        first_line = str(error).strip().splitlines()[0] if str(error) else ""
        connection.send(f"{type(error).__name__}: {first_line}")
        return
    connection.send("")
    before = _start_peak(cuda)
    while connection.recv() == "go":
        start = time.perf_counter()
        result = run()
        if cuda:
            torch.cuda.synchronize()
        connection.send((time.perf_counter() - start, result))
    connection.send(_peak(cuda) - before)


def _start_peak(cuda: bool) -> int:
    """Forgets the peak so far, and returns what is held now."""
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with suppress(OSError, AttributeError):  # a C library without malloc_trim keeps a few MB more
        ctypes.CDLL(None).malloc_trim(0)
    # Linux: the resident high-water mark starts again.
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak(cuda: bool) -> int:
    return torch.cuda.max_memory_allocated() if cuda else _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
