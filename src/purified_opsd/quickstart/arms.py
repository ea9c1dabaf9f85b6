"""The paper in miniature: both arms side by side, each part an ordinary command that anyone could have typed.

    train    60 steps of purified and of standard OPSD on the miniature
    evaluate base and checkpoints on questions that none of them has seen
    diagnose what drives the teacher, on each one's own completions
    microscope  two of those completions, token by token

Imports no torch: the work is done by processes of its own, one an arm, each on its share of the processor cores.
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

from purified_opsd.reporting.records import RunError, count_lines, locked, write_whole

ARMS = ("pmi", "standard")
BENCHMARK = "countdown"
PATIENCE_S = 900.0
"""An arm that does nothing for so long is stopped."""
STEP_WORK, QUESTION_WORK, SAMPLE_WORK, START_WORK = 2.0, 0.06, 0.12, 8.0
"""What a training step, an evaluated question, a diagnosed sample and the start of a command take, in seconds here."""
COMMANDS = 4
SLIDES = 2
"""Completions of each candidate under the microscope."""


@dataclass(frozen=True)
class Quickstart:
    """What the quickstart does, with `steps` of at least 3; a folder begun with one is gone on with by the same only."""

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
        super().__init__(f"`purified-opsd {' '.join(command)}` ended with exit code {code}. {log} ends with:\n{said}")
        self.exit_code = code


def run_quickstart(settings: Quickstart, folder: Path) -> None:
    """Does what of it is not done yet.  Raises ArmFailed, TimeoutError, or RunError for a folder begun with other settings.

    However it ends, by an exception or a signal that raises one, both arms are asked to save before it returns.
    """
    with locked(folder):
        _begin(settings, folder)
        arms = [Arm(name, settings, folder / name) for name in ARMS]
        total = sum(arm.work for arm in arms)
        with tqdm(total=round(total), bar_format=_BAR) as bar:
            try:
                for done in _side_by_side(arms):
                    bar.set_description_str(" · ".join(f"{arm.name}: {arm.doing}" for arm in arms), refresh=False)
                    if bar.initial == 0 and bar.n == 0:
                        bar.initial = bar.n = round(done)  # what is there already took no time
                    bar.update(round(done) - bar.n)
            finally:
                for arm in arms:
                    arm.stop()


_BAR = "{percentage:3.0f}%|{bar:24}| {elapsed} gone, {remaining} left  {desc}"


class Arm:
    """One arm: its commands one after another, and how far it is."""

    def __init__(self, name: str, settings: Quickstart, folder: Path):
        self.name, self.settings, self.folder = name, settings, folder
        self.process: subprocess.Popen | None = None
        self.command: list[str] = []
        self.left = self._commands()
        self.moved, self.at = time.monotonic(), -1.0

    @property
    def work(self) -> float:
        """All of it, in estimated seconds."""
        each = self.settings.candidates
        evaluation, diagnosis = each * self.settings.questions * QUESTION_WORK, each * self.settings.samples * SAMPLE_WORK
        return self.settings.steps * STEP_WORK + evaluation + diagnosis + COMMANDS * START_WORK

    @property
    def done(self) -> float:
        """How much of `work` is on the disk."""
        trained = count_lines(self.folder / "metrics.jsonl")
        evaluated = sum(map(count_lines, (self.folder / "evaluation" / BENCHMARK).glob("*/samples.jsonl")))
        diagnosed = sum(map(count_lines, (self.folder / "diagnosis").glob("*.jsonl")))
        started = COMMANDS - len(self.left)
        return trained * STEP_WORK + evaluated * QUESTION_WORK + diagnosed * SAMPLE_WORK + started * START_WORK

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

    def stop(self) -> None:
        """Asks the command to save and leave, and waits for it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=30)

    @property
    def log(self) -> Path:
        return self.folder.parent / f"{self.name}.log"

    def _commands(self) -> list[list[str]]:
        s, run = self.settings, str(self.folder)
        train = ["train", f"miniature.{self.name}", "--output-dir", run, "--steps", str(s.steps), "--seed", str(s.seed)]
        train += ["--checkpoint-every", str(s.checkpoint_every)]
        if (self.folder / "config.yaml").exists():
            train = ["resume", run]
        finished = (self.folder / "checkpoints" / f"step-{s.steps:06d}" / "manifest.json").exists()
        evaluate = ["evaluate", run, "--benchmarks", BENCHMARK, "--runs", "1", "--limit", str(s.questions), "--seed", str(s.seed)]
        diagnose = ["diagnose", run, "--samples", str(s.samples), "--seed", str(s.seed)]
        microscope = ["microscope", run, "--samples", str(SLIDES), "--seed", str(s.seed)]
        return [*([] if finished else [train]), evaluate, diagnose, microscope]

    def _start(self, command: list[str]) -> None:
        self.command = command
        threads = str(max(1, (os.cpu_count() or 1) // len(ARMS)))
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ purified-opsd {' '.join(command)}\n")
            log.flush()
            words = [sys.executable, "-m", "purified_opsd.cli", *command]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True)

    def _watch(self) -> None:
        """Raises TimeoutError where nothing has come of the command for too long."""
        if self.done != self.at:
            self.moved, self.at = time.monotonic(), self.done
        if self.process and time.monotonic() - self.moved > PATIENCE_S:
            raise TimeoutError(
                f"`purified-opsd {' '.join(self.command)}` has done nothing for {PATIENCE_S / 60:.0f} minutes and is stopped; see "
                f"{self.log}. Go on with the same quickstart command."
            )


def _begin(settings: Quickstart, folder: Path) -> None:
    """Writes down what is asked.  Raises RunError where the folder was begun with something else."""
    record = folder / "quickstart.json"
    if not record.exists():
        write_whole(record, json.dumps(asdict(settings), indent=2) + "\n")
    before = json.loads(record.read_text(encoding="utf-8"))
    if before != asdict(settings):
        raise RunError(
            f"{folder} was begun with {before}, and {asdict(settings)} is asked for: the numbers would not go together. Give "
            "another --output-dir, or ask for what it was begun with."
        )


def _side_by_side(arms: Sequence[Arm]) -> Iterator[float]:
    """Both arms at once, until both are done; the work done so far, four times a second."""
    busy = list(arms)
    while busy:
        busy = [arm for arm in busy if arm.advance()]
        yield sum(arm.done for arm in arms)
        time.sleep(0.25)
    yield sum(arm.work for arm in arms)
