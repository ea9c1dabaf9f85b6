"""Answers compared in processes that are killed and replaced when they take too long, too much or
fall over.

Mathematics from a model may take for ever (`9^{9^{9}}`), and a signal cannot stop one long product
of whole numbers.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import LifoQueue
from typing import IO, Any, cast

from purified_opsd.errors import WorkerError

PROGRAM = "purified_opsd.evaluation.grading.verify_worker"
ROOT = Path(__file__).parents[3]
"""Where the package lies, wherever the process was started."""


@dataclass(frozen=True)
class Limits:
    """What one answer may take."""

    cpu_seconds: int = 3
    wall_seconds: float = 30.0
    """Longer than the CPU's, for a busy machine."""
    memory_bytes: int = 2**30
    start_seconds: float = 120.0
    """Until a new worker has imported what it needs."""


class Died(Exception):
    """A worker has ended; the message is the reason."""


class Worker:
    """One process."""

    def __init__(self, limits: Limits):
        self.limits = limits
        command = [
            sys.executable,
            "-P",
            "-m",
            PROGRAM,
            str(limits.cpu_seconds),
            str(limits.memory_bytes),
        ]
        pipe = subprocess.PIPE
        paths = [path for path in (os.environ.get("PYTHONPATH"), str(ROOT)) if path]
        self.process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self.asking, self.answers, self.errors = (
            cast(IO[bytes], stream)
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr)
        )
        try:
            self._read(limits.start_seconds)
        except Died as death:
            self.process.kill()
            message = self.errors.read().decode(errors="replace")
            self.end()
            raise WorkerError(
                f"The process that compares answers did not start ({death}): "
                f"{' '.join(message.split()[-30:])}. Nothing could be graded. Check that "
                "math-verify is installed: pip install math-verify."
            ) from death

    def ask(self, question: Any) -> Any:
        """Returns the answer.  Raises Died where none comes within the limits; the worker is then
        of no more use.
        """
        try:
            self.asking.write(json.dumps(question).encode() + b"\n")
        except BrokenPipeError as error:
            raise Died("crash") from error
        return self._read(self.limits.wall_seconds)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.asking, self.answers, self.errors):
            pipe.close()

    def _read(self, seconds: float) -> Any:
        """The next line.  Raises Died where none comes in time."""
        deadline, line = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise Died("timeout")
                piece = os.read(self.answers.fileno(), 2**16)
                if not piece:
                    raise Died(
                        "timeout" if self.process.wait(seconds) == -signal.SIGXCPU else "crash"
                    )
                line += piece
        return json.loads(line)


class Workers:
    """As many as are needed, up to a number; each thread that asks waits for a free one."""

    def __init__(self, count: int, limits: Limits):
        self.limits = limits
        self._free: LifoQueue[Worker | None] = LifoQueue()
        for _ in range(count):
            self._free.put(None)

    def same(self, gold: Sequence[str], answer: Sequence[str]) -> bool:
        """Are the parts of an answer those of the gold one, in any order?  Raises Died with the
        reason where that stays open.
        """
        worker = self._free.get()
        try:
            worker = worker or Worker(self.limits)
            verdict = worker.ask([list(gold), list(answer)])
            if isinstance(verdict, str):
                raise Died(verdict)
        except BaseException:
            if worker:
                worker.end()
                worker = None
            raise
        finally:
            self._free.put(worker)
        return verdict


@cache
def shared_workers(count: int, limits: Limits) -> Workers:
    """The workers of this process; they end with it."""
    return Workers(count, limits)
