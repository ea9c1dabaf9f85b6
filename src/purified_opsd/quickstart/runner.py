"""The paper in miniature: both arms side by side, each part an ordinary command that anyone could
have typed.

    train    60 steps of purified and of standard OPSD on the miniature
    evaluate base and checkpoints on questions that none of them has seen
    diagnose what drives the teacher, on each one's own completions
    microscope  two of those completions, token by token

Imports no torch: the work is done by processes of its own, one an arm, each on its share of the
processor cores.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from purified_opsd.errors import RunError
from purified_opsd.interrupts import FirstSignal, end_with_parent
from purified_opsd.storage.files import count_lines, locked, read_json, write_atomic
from purified_opsd.storage.run_dir import step_name

ARMS = ("pmi", "standard")
BENCHMARK = "countdown"
PATIENCE_S = 900.0
"""An arm that does nothing for so long is stopped."""
STEP_WORK, QUESTION_WORK, SAMPLE_WORK, START_WORK = 2.0, 0.06, 0.12, 8.0
"""What a training step, an evaluated question, a diagnosed sample and the start of a command take,
in seconds here.
"""
COMMANDS = 4
STOPPING_S = 120.0
"""How long the arms may take to save when they are asked to stop."""
SAVED = (0, 128 + signal.SIGTERM, -signal.SIGTERM)
"""Exit codes of a command that is done, or was asked to stop: what it has not written by then, it
takes again.
"""
KEEPS_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
"""glibc hands freed tensors out again, instead of giving their pages back to the system: 6 to 9 %
of a step.
"""
SLIDES = 2
"""Completions of each candidate under the microscope."""


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
        """Base and checkpoints."""
        return 1 + self.steps // self.checkpoint_every + (self.steps % self.checkpoint_every > 0)


class ArmFailed(Exception):
    """A command of an arm failed: which, what it said, and its exit code."""

    def __init__(self, command: Sequence[str], log: Path, code: int):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:]
        said = "\n".join(f"  {line}" for line in lines)
        super().__init__(
            f"`purified-opsd {' '.join(command)}` ended with exit code {code}. {log} ends with:\n"
            f"{said}"
        )
        self.exit_code = code


class Stopped(Exception):
    """A signal has ended it: which, what became of the arms, and the exit code."""

    def __init__(self, number: int, lost: Sequence[str]):
        what = (
            f"{'; '.join(lost)}: its last steps may be lost, and are taken again"
            if lost
            else "both arms are saved"
        )
        super().__init__(f"Stopped by {signal.Signals(number).name}; {what}.")
        self.exit_code = 128 + number


def run_quickstart(settings: Quickstart, folder: Path) -> None:
    """Does what of it is not done yet.  Raises ArmFailed, TimeoutError, Stopped, or RunError for a
    folder begun otherwise.

    However it ends, both arms are asked to save, and have ended, before it returns; signals wait
    for that.
    """
    with locked(folder), FirstSignal() as signals:
        _begin(settings, folder)
        arms = [Arm(name, settings, folder / name) for name in ARMS]
        before, total = sum(arm.done for arm in arms), sum(arm.work for arm in arms)
        with tqdm(initial=round(before), total=round(total), smoothing=0, bar_format=_BAR) as bar:
            try:
                for done in _side_by_side(arms, signals):
                    bar.set_description_str(
                        " · ".join(f"{arm.name}: {arm.doing}" for arm in arms), refresh=False
                    )
                    bar.update(round(done) - bar.n)
            finally:
                lost = _stop(arms)
        if signals.number:
            raise Stopped(signals.number, lost)


_BAR = "{percentage:3.0f}%|{bar:24}| {elapsed} gone, {remaining} left  {desc}"


class Arm:
    """One arm: its commands one after another, and how far it is."""

    def __init__(self, name: str, settings: Quickstart, folder: Path):
        self.name, self.settings, self.folder = name, settings, folder
        self.process: subprocess.Popen | None = None
        self.command: list[str] = []
        self.left = self._commands()
        self.moved, self.at = time.monotonic(), -1.0
        self.rows_at_start = 0.0

    @property
    def work(self) -> float:
        """All of it, in estimated seconds."""
        each = self.settings.candidates
        evaluation, diagnosis = (
            each * self.settings.questions * QUESTION_WORK,
            each * self.settings.samples * SAMPLE_WORK,
        )
        return self.settings.steps * STEP_WORK + evaluation + diagnosis + COMMANDS * START_WORK

    @property
    def done(self) -> float:
        """How much of `work` is on the disk; that a command has started shows by what comes of it."""
        rows = self._rows()
        waiting = self.process is not None and rows == self.rows_at_start
        return rows + (COMMANDS - len(self.left) - waiting) * START_WORK

    def _rows(self) -> float:
        trained = count_lines(self.folder / "metrics.jsonl")
        evaluated = sum(
            map(count_lines, (self.folder / "evaluation" / BENCHMARK).glob("*/samples.jsonl"))
        )
        diagnosed = sum(map(count_lines, (self.folder / "diagnosis").glob("*.jsonl")))
        return trained * STEP_WORK + evaluated * QUESTION_WORK + diagnosed * SAMPLE_WORK

    @property
    def doing(self) -> str:
        return self.command[0] if self.process else "done"

    def advance(self) -> bool:
        """Looks after the command under way and starts the next; is there more to do?"""
        if self.process and (code := self.process.poll()) is not None:
            self.process = None
            if code:
                raise ArmFailed(self.command, self.log, code)
        if self.process is None and self.left:
            self._start(self.left.pop(0))
        self._watch()
        return self.process is not None

    def ask_to_stop(self) -> None:
        if self.process:
            self.process.terminate()

    def end(self, deadline: float) -> str:
        """Waits for the command, and kills it at the deadline; what went wrong with it, or nothing."""
        if self.process is None:
            return ""
        try:
            code = self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return (
            ""
            if code in SAVED
            else f"`{self.command[0]}` of {self.name} ended with exit code {code} (see {self.log})"
        )

    @property
    def log(self) -> Path:
        return self.folder.parent / f"{self.name}.log"

    def _commands(self) -> list[list[str]]:
        s, run = self.settings, str(self.folder)
        train = [
            "train",
            f"miniature.{self.name}",
            "--output-dir",
            run,
            "--steps",
            str(s.steps),
            "--seed",
            str(s.seed),
        ]
        train += ["--checkpoint-every", str(s.checkpoint_every)]
        if (self.folder / "config.yaml").exists():
            train = ["resume", run]
        finished = (self.folder / "checkpoints" / step_name(s.steps) / "manifest.json").exists()
        evaluate = [
            "evaluate",
            run,
            "--benchmarks",
            BENCHMARK,
            "--runs",
            "1",
            "--limit",
            str(s.questions),
            "--seed",
            str(s.seed),
        ]
        diagnose = ["diagnose", run, "--samples", str(s.samples), "--seed", str(s.seed)]
        microscope = ["microscope", run, "--samples", str(SLIDES), "--seed", str(s.seed)]
        return [*([] if finished else [train]), evaluate, diagnose, microscope]

    def _start(self, command: list[str]) -> None:
        self.command, self.rows_at_start = command, self._rows()
        threads = str(max(1, (os.cpu_count() or 1) // len(ARMS)))
        environment = {
            **KEEPS_MEMORY,
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "false",
        }
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ purified-opsd {' '.join(command)}\n")
            log.flush()
            words = [sys.executable, "-m", "purified_opsd.cli", *command]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True,
                                            preexec_fn=end_with_parent)  # fmt: skip

    def _watch(self) -> None:
        """Raises TimeoutError where nothing has come of the command for too long."""
        if self.done != self.at:
            self.moved, self.at = time.monotonic(), self.done
        if self.process and time.monotonic() - self.moved > PATIENCE_S:
            raise TimeoutError(
                f"`purified-opsd {' '.join(self.command)}` has done nothing for "
                f"{PATIENCE_S / 60:.0f} minutes and is stopped; see {self.log}. Go on with the "
                "same quickstart command."
            )


def _begin(settings: Quickstart, folder: Path) -> None:
    """Writes down what is asked.  Raises RunError where the folder was begun with something else."""
    record = folder / "quickstart.json"
    if not record.exists():
        write_atomic(record, json.dumps(asdict(settings), indent=2) + "\n")
    before = read_json(record)
    if before != asdict(settings):
        raise RunError(
            f"{folder} was begun with {before}, and {asdict(settings)} is asked for: the numbers "
            "would not go together. Give another --output-dir, or ask for what it was begun with."
        )


def _side_by_side(arms: Sequence[Arm], signals: FirstSignal) -> Iterator[float]:
    """Both arms at once, until both are done or a signal came; the work done so far, four times a
    second.
    """
    busy = list(arms)
    while busy and not signals.number:
        busy = [arm for arm in busy if arm.advance()]
        yield sum(arm.done for arm in arms)
        time.sleep(0.25)
    if not busy:
        yield sum(arm.work for arm in arms)


def _stop(arms: Sequence[Arm]) -> list[str]:
    """Asks all to save, then waits for each; what went wrong."""
    for arm in arms:
        arm.ask_to_stop()
    deadline = time.monotonic() + STOPPING_S
    return [wrong for arm in arms if (wrong := arm.end(deadline))]
