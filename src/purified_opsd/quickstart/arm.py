"""One arm of the quickstart: its commands one after another, and how far it is.

    train       60 steps towards the purified target or towards the teacher, on the miniature
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

from .current import diagnosed, evaluated, read_under_microscope

ARMS = ("pmi", "standard")
BENCHMARK = "countdown"
PATIENCE_S = 900.0
"""An arm that does nothing for so long is stopped."""
STEP_WORK = 1.7
"""Seconds that a training step takes on a core of its own (AVX-512), as the others measured on two
idle cores: 3 min 15 s in all.
"""
QUESTION_WORK = 0.03
"""Seconds of an evaluated question."""
SAMPLE_WORK = 0.06
"""Seconds of a diagnosed sample."""
START_WORK = 8.0
"""Seconds of the start of a command."""
COMMANDS = 4
SAVED = (0, 128 + signal.SIGTERM, -signal.SIGTERM)
"""Exit codes of a command that is done, or was asked to stop: what it has not written by then, it
takes again.
"""
KEEPS_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
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
        text = log.read_text(encoding="utf-8", errors="replace")
        lines = text.strip().splitlines()
        last = lines[-QUOTED_LINES:]
        quoted = "\n".join(f"  {line}" for line in last)
        typed = " ".join(command)
        super().__init__(
            f"`purified-opsd {typed}` ended with exit code {code}. {log} ends with:\n{quoted}"
        )
        self.exit_code = code


class Arm:
    """One arm: the command under way, those that are left, and the work done."""

    def __init__(self, name: str, settings: Quickstart, folder: Path):
        self.name = name
        self.settings = settings
        self.folder = folder
        self.process: subprocess.Popen | None = None
        self.command: list[str] = []
        self.left = self._commands()
        self._last_done = -1.0
        self._last_moved = time.monotonic()
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
        starting = COMMANDS * START_WORK
        return training + measuring + starting

    @property
    def done(self) -> float:
        """How much of `work` is on the disk; that a command has started shows in what it writes."""
        written = self._written()
        waiting = self.process is not None and written == self._written_at_start
        started = COMMANDS - len(self.left) - waiting
        return written + started * START_WORK

    @property
    def seconds_left(self) -> float:
        """An estimate, on an idle core of its own."""
        return self.work - self.done

    @property
    def doing(self) -> str:
        return self.command[0] if self.process else "done"

    def advance(self) -> bool:
        """Looks after the command under way and starts the next; is there more to do?

        Raises ArmFailed, or TimeoutError where the command has done nothing for too long.
        """
        self._notice_end()
        if self.process is None and self.left:
            following = self.left.pop(0)
            self._start(following)
        self._refuse_to_hang()
        return self.process is not None

    def _notice_end(self) -> None:
        """Forgets the command's process once it has ended; raises ArmFailed where it failed."""
        if self.process is None:
            return
        code = self.process.poll()
        if code is None:
            return
        self.process = None
        if code:
            raise ArmFailed(self.command, self.log, code)

    def ask_to_stop(self) -> None:
        if self.process:
            self.process.terminate()

    def end(self, deadline: float) -> str:
        """Waits for the command, and kills it at the deadline; returns what went wrong with it, or
        nothing.
        """
        if self.process is None:
            return ""
        seconds_left = max(0.0, deadline - time.monotonic())
        try:
            code = self.process.wait(seconds_left)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code in SAVED:
            return ""
        return f"`{self.command[0]}` of {self.name} ended with exit code {code} (see {self.log})"

    def _commands(self) -> list[list[str]]:
        """The commands whose results are not there yet, or are of other weights."""
        settings = self.settings
        run = str(self.folder)
        seed = ["--seed", str(settings.seed)]
        evaluate = ["evaluate", run, "--benchmarks", BENCHMARK, "--runs", "1"]
        evaluate += ["--limit", str(settings.questions), *seed]
        diagnose = ["diagnose", run, "--samples", str(settings.samples), *seed]
        microscope = ["microscope", run, "--samples", str(MICROSCOPE_SAMPLES), *seed]
        measuring = [evaluate, diagnose, microscope]

        last_checkpoint = self.folder / "checkpoints" / step_name(settings.steps)
        manifest = last_checkpoint / "manifest.json"
        if not manifest.exists():
            return [self._training_command(), *measuring]
        current = [
            evaluated(self.folder, BENCHMARK, settings.questions),
            diagnosed(self.folder, settings.samples),
            read_under_microscope(self.folder, MICROSCOPE_SAMPLES),
        ]
        return [command for command, done in zip(measuring, current, strict=True) if not done]

    def _training_command(self) -> list[str]:
        """Begins the run, or goes on with the one that is there."""
        settings = self.settings
        run = str(self.folder)
        configuration = self.folder / "config.yaml"
        if configuration.exists():
            return ["resume", run]
        command = ["train", f"miniature.{self.name}"]
        command += ["--output-dir", run]
        command += ["--steps", str(settings.steps)]
        command += ["--seed", str(settings.seed)]
        command += ["--checkpoint-every", str(settings.checkpoint_every)]
        return command

    def _written(self) -> float:
        """The work whose results are in the run directory."""
        evaluation = self.folder / "evaluation" / BENCHMARK
        diagnosis = self.folder / "diagnosis"
        steps = count_lines(self.folder / "metrics.jsonl")
        questions = sum(map(count_lines, evaluation.glob("*/samples.jsonl")))
        samples = sum(map(count_lines, diagnosis.glob("*.jsonl")))
        trained = steps * STEP_WORK
        evaluated = questions * QUESTION_WORK
        diagnosed = samples * SAMPLE_WORK
        return trained + evaluated + diagnosed

    def _start(self, command: list[str]) -> None:
        self.command = command
        self._written_at_start = self._written()
        typed = " ".join(command)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ purified-opsd {typed}\n")
            log.flush()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "purified_opsd.cli", *command],
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def _refuse_to_hang(self) -> None:
        done = self.done
        now = time.monotonic()
        if done != self._last_done:
            self._last_done = done
            self._last_moved = now
        idle = now - self._last_moved
        if self.process and idle > PATIENCE_S:
            typed = " ".join(self.command)
            minutes = PATIENCE_S / 60
            raise TimeoutError(
                f"`purified-opsd {typed}` has done nothing for {minutes:.0f} minutes and is "
                f"stopped; see {self.log}. Go on with the same quickstart command."
            )


def _environment() -> dict[str, str]:
    """The environment of a command, with its arm's share of the cores."""
    cores = os.cpu_count() or 1
    threads = max(1, cores // len(ARMS))
    return {
        **KEEPS_MEMORY,
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
