"""One arm of the quickstart: its commands one after another, and how far it is.

    train       60 steps of purified or of standard OPSD on the miniature
    evaluate    base and checkpoints on questions that none of them has seen
    diagnose    what drives the teacher, on each one's own completions
    microscope  two of those completions, token by token

Each is an ordinary command that anyone could have typed, and a process of its own.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from purified_opsd.errors import UserError
from purified_opsd.interrupts import end_with_parent
from purified_opsd.storage.files import count_lines
from purified_opsd.storage.run_dir import step_name

ARMS = ("pmi", "standard")
BENCHMARK = "countdown"
PATIENCE_S = 900.0
"""An arm that does nothing for so long is stopped."""
STEP_WORK, QUESTION_WORK, SAMPLE_WORK, START_WORK = 2.0, 0.06, 0.12, 8.0
"""Seconds that a training step, an evaluated question, a diagnosed sample and the start of a
command take here.
"""
COMMANDS = 4
SAVED = (0, 128 + signal.SIGTERM, -signal.SIGTERM)
"""Exit codes of a command that is done, or was asked to stop: what it has not written by then, it
takes again.
"""
KEEPS_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
"""glibc hands freed tensors out again, instead of giving their pages back to the system: 6 to 9 %
of a step.
"""
MICROSCOPE_SAMPLES = 2
"""Completions of each candidate under the microscope."""
QUOTED_LINES = 8
"""Lines of a log that are quoted where a command failed."""


@dataclass(frozen=True)
class Quickstart:
    """What the quickstart does, with `steps` of at least 3; a folder begun with one is gone on with
    by the same only.
    """

    steps: int = 60
    questions: int = 300
    samples: int = 100
    seed: int = 0

    @property
    def checkpoint_every(self) -> int:
        return self.steps // 3

    @property
    def candidates(self) -> int:
        """The number of models that are measured: the base and the checkpoints."""
        checkpoints = self.steps // self.checkpoint_every
        last_is_extra = self.steps % self.checkpoint_every > 0
        return 1 + checkpoints + last_is_extra


class ArmFailed(UserError):
    """A command of an arm failed: which, what it said, and its exit code."""

    def __init__(self, command: Sequence[str], log: Path, code: int):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        quoted = "\n".join(f"  {line}" for line in lines[-QUOTED_LINES:])
        super().__init__(
            f"`purified-opsd {' '.join(command)}` ended with exit code {code}. {log} ends with:\n"
            f"{quoted}"
        )
        self.exit_code = code


class Arm:
    """One arm: the command under way, those that are left, and the work done."""

    def __init__(self, name: str, settings: Quickstart, folder: Path):
        self.name, self.settings, self.folder = name, settings, folder
        self.process: subprocess.Popen | None = None
        self.command: list[str] = []
        self.left = self._commands()
        self._last_done, self._last_moved = -1.0, time.monotonic()
        self._written_at_start = 0.0

    @property
    def log(self) -> Path:
        return self.folder.parent / f"{self.name}.log"

    @property
    def work(self) -> float:
        """All of the arm's work, in estimated seconds."""
        training = self.settings.steps * STEP_WORK
        evaluation = self.settings.questions * QUESTION_WORK
        diagnosis = self.settings.samples * SAMPLE_WORK
        measuring = self.settings.candidates * (evaluation + diagnosis)
        return training + measuring + COMMANDS * START_WORK

    @property
    def done(self) -> float:
        """How much of `work` is on the disk; that a command has started shows in what it writes."""
        written = self._written()
        waiting = self.process is not None and written == self._written_at_start
        return written + (COMMANDS - len(self.left) - waiting) * START_WORK

    @property
    def doing(self) -> str:
        return self.command[0] if self.process else "done"

    def advance(self) -> bool:
        """Looks after the command under way and starts the next; is there more to do?

        Raises ArmFailed, or TimeoutError where the command has done nothing for too long.
        """
        if self.process and (code := self.process.poll()) is not None:
            self.process = None
            if code:
                raise ArmFailed(self.command, self.log, code)
        if self.process is None and self.left:
            self._start(self.left.pop(0))
        self._refuse_to_hang()
        return self.process is not None

    def ask_to_stop(self) -> None:
        if self.process:
            self.process.terminate()

    def end(self, deadline: float) -> str:
        """Waits for the command, and kills it at the deadline; returns what went wrong with it, or
        nothing.
        """
        if self.process is None:
            return ""
        try:
            code = self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code in SAVED:
            return ""
        return f"`{self.command[0]}` of {self.name} ended with exit code {code} (see {self.log})"

    def _commands(self) -> list[list[str]]:
        settings, run = self.settings, str(self.folder)
        seed = ["--seed", str(settings.seed)]
        if (self.folder / "config.yaml").exists():
            train = ["resume", run]
        else:
            train = ["train", f"miniature.{self.name}", "--output-dir", run]
            train += ["--steps", str(settings.steps), *seed]
            train += ["--checkpoint-every", str(settings.checkpoint_every)]
        evaluate = ["evaluate", run, "--benchmarks", BENCHMARK, "--runs", "1"]
        evaluate += ["--limit", str(settings.questions), *seed]
        diagnose = ["diagnose", run, "--samples", str(settings.samples), *seed]
        microscope = ["microscope", run, "--samples", str(MICROSCOPE_SAMPLES), *seed]
        last_checkpoint = self.folder / "checkpoints" / step_name(settings.steps)
        trained = (last_checkpoint / "manifest.json").exists()
        return [*([] if trained else [train]), evaluate, diagnose, microscope]

    def _written(self) -> float:
        """The work whose results are in the run directory."""
        evaluation = self.folder / "evaluation" / BENCHMARK
        trained = count_lines(self.folder / "metrics.jsonl")
        evaluated = sum(map(count_lines, evaluation.glob("*/samples.jsonl")))
        diagnosed = sum(map(count_lines, (self.folder / "diagnosis").glob("*.jsonl")))
        return trained * STEP_WORK + evaluated * QUESTION_WORK + diagnosed * SAMPLE_WORK

    def _start(self, command: list[str]) -> None:
        self.command, self._written_at_start = command, self._written()
        environment = {
            **KEEPS_MEMORY,
            **os.environ,
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(ARMS))),
            "TOKENIZERS_PARALLELISM": "false",
        }
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ purified-opsd {' '.join(command)}\n")
            log.flush()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "purified_opsd.cli", *command],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def _refuse_to_hang(self) -> None:
        done = self.done
        if done != self._last_done:
            self._last_done, self._last_moved = done, time.monotonic()
        if self.process and time.monotonic() - self._last_moved > PATIENCE_S:
            raise TimeoutError(
                f"`purified-opsd {' '.join(self.command)}` has done nothing for "
                f"{PATIENCE_S / 60:.0f} minutes and is stopped; see {self.log}. Go on with the "
                "same quickstart command."
            )
