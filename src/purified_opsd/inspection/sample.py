"""A few completions to read, of a run's target, teacher, student or base, kept in the run
directory.

samples/001-target.jsonl  one completion a line, with its question, reference and sampling; every
call makes a new file
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, cast

from purified_opsd.data.dataset import Example
from purified_opsd.data.prompts import Contexts
from purified_opsd.data.seeds import seed_for
from purified_opsd.errors import CheckpointError
from purified_opsd.evaluation.requests import Candidate
from purified_opsd.objective.targets import Target, TeacherTarget
from purified_opsd.sampling.sampler import Completion
from purified_opsd.sampling.target import TargetSampler
from purified_opsd.storage.completions import CompletionRow, write_completions
from purified_opsd.storage.files import locked
from purified_opsd.training.checkpoint import list_checkpoints
from purified_opsd.training.checkpoint_models import (
    base_candidate,
    checkpoint_candidates,
    chosen_steps,
)
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.setup import TrainingSetup, setup_training

Source = Literal["target", "teacher", "student", "base"]

Writer = Callable[[Contexts, int], Completion]
"""Writes a completion to the prompts of an example, as a seed decides."""


@dataclass(frozen=True)
class Wish:
    """What is to be read: completions of whom, and how many."""

    source: Source
    samples: int
    seed: int
    step: int | None = None
    """Of the student; None: its newest checkpoint."""


def sample_run(run: TrainingConfig, wish: Wish, show: Callable[[CompletionRow], None]) -> Path:
    """Hands over each completion as soon as it is written and kept; the file they are kept in.

    Raises DataError for more samples than questions and CheckpointError for a student without a
    checkpoint; then no file is made.
    """
    step = _student_step(run.output_dir, wish.step) if wish.source == "student" else None
    job, folder, rows = setup_training(run), run.output_dir / "samples", []
    examples = job.chosen(wish.samples, wish.seed)
    with locked(folder), _writer(job, wish.source, step) as write:
        file = _new_file(folder, wish.source if step is None else f"{wish.source}-step-{step:06d}")
        for place, example in enumerate(examples):
            contexts, seed = job.prompts.contexts(example), seed_for(wish.seed, "sample", place)
            whose = {"number": place + 1, "from": wish.source, "step": step}
            rows.append(_row(job, example, contexts, seed, write(contexts, seed), whose))
            write_completions(file, rows)
            show(rows[-1])
    return file


def _writer(job: TrainingSetup, source: Source, step: int | None) -> AbstractContextManager[Writer]:
    match source:
        case "target":
            return _of_target(job, job.run.purified_target)
        case "teacher":
            return _of_target(job, TeacherTarget())
        case "base":
            return _of_candidate(job, base_candidate(job.policy))
        case "student":
            return _of_candidate(
                job,
                checkpoint_candidates(job.policy, job.run.output_dir, [step] if step else [])[0],
            )


@contextmanager
def _of_target(job: TrainingSetup, target: Target) -> Iterator[Writer]:
    sampler = TargetSampler(job.policy.model, target, job.run.sampling)

    def write(contexts: Contexts, seed: int) -> Completion:
        prompts = {
            "base": contexts.base,
            "teacher": contexts.teacher,
            "reference": contexts.reference,
        }
        return sampler.generate([prompts[name] for name in target.contexts], seed)

    yield write


@contextmanager
def _of_candidate(job: TrainingSetup, candidate: Candidate) -> Iterator[Writer]:
    with candidate.sampler(job.run.sampling) as sampler:
        yield lambda contexts, seed: sampler.generate([contexts.base], [seed])[0]


def _student_step(folder: Path, step: int | None) -> int:
    """Raises CheckpointError where the run has no checkpoint of that step, or none at all."""
    there = list_checkpoints(folder)
    if step == 0 or not there:
        raise CheckpointError(
            "Before the first checkpoint the student is the base: ask for that with --from base. "
            f"{folder} has checkpoints of "
            f"{'steps ' + ', '.join(map(str, there)) if there else 'no step yet'}."
        )
    return chosen_steps(folder, [there[-1] if step is None else step])[0]


def _new_file(folder: Path, name: str) -> Path:
    numbers = {int(file.name[:3]) for file in folder.glob("[0-9][0-9][0-9]-*.jsonl")}
    return (
        folder / f"{next(number for number in count(1) if number not in numbers):03d}-{name}.jsonl"
    )


def _row(
    job: TrainingSetup,
    example: Example,
    contexts: Contexts,
    seed: int,
    completion: Completion,
    whose: dict[str, Any],
) -> CompletionRow:
    return CompletionRow(
        example.id,
        completion.finish_reason,
        cast(str, job.policy.tokenizer.decode(completion.ids)),
        completion.ids,
        seed=seed,
        extras={
            **whose,
            "target": asdict(job.run.purified_target),
            "sampling": asdict(job.run.sampling),
            "problem": example.problem,
            "reference": example.reference,
            "reference_cut": contexts.cut,
            "log_probs": completion.log_probs,
        },
    )
