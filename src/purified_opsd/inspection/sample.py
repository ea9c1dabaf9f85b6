"""A few completions to read, of a run's target, teacher, student or base, kept in the run
directory.

    samples/001-target.jsonl  one completion a line, with its question, reference and sampling;
                              every call makes a new file
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
from purified_opsd.storage.run_dir import step_name
from purified_opsd.training.checkpoint import list_checkpoints
from purified_opsd.training.checkpoint_models import chosen_steps, run_candidates
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.setup import LoadedRun, load_run

Source = Literal["target", "teacher", "student", "base"]

Writer = Callable[[Contexts, int], Completion]
"""Writes a completion to the prompts of an example, as a seed decides."""


@dataclass(frozen=True)
class SampleRequest:
    """Whose completions are to be read, and how many."""

    source: Source
    samples: int
    seed: int
    step: int | None = None
    """Which checkpoint of the student; None: its newest."""


def sample_run(
    config: TrainingConfig, request: SampleRequest, show: Callable[[CompletionRow], None]
) -> Path:
    """Hands each completion to `show` as soon as it is written and kept; returns the file that
    they are kept in.

    Raises DataError for more samples than questions and CheckpointError for a student without a
    checkpoint; then no file is made.
    """
    source, step = request.source, None
    if source == "student":
        step = _student_step(config.output_dir, request.step)
    run, folder, rows = load_run(config), config.output_dir / "samples", []
    examples = run.choose_examples(request.samples, request.seed)
    with locked(folder), _writer(run, source, step) as write:
        file = _new_file(folder, source if step is None else f"{source}-{step_name(step)}")
        for index, example in enumerate(examples):
            contexts, seed = run.prompts.contexts(example), seed_for(request.seed, "sample", index)
            origin = {"number": index + 1, "from": source, "step": step}
            completion = write(contexts, seed)
            rows.append(_row(run, example, contexts, seed, completion, origin))
            write_completions(file, rows)
            show(rows[-1])
    return file


def _writer(run: LoadedRun, source: Source, step: int | None) -> AbstractContextManager[Writer]:
    """Enters the weights that write."""
    match source:
        case "target":
            return _target_writer(run, run.config.purified_target)
        case "teacher":
            return _target_writer(run, TeacherTarget())
        case "base" | "student":
            (candidate,) = run_candidates(run.policy, run.config.output_dir, [step or 0])
            return _candidate_writer(run, candidate)


@contextmanager
def _target_writer(run: LoadedRun, target: Target) -> Iterator[Writer]:
    """Draws from the target distribution, which reads the prompts of its own contexts."""
    sampler = TargetSampler(run.policy.model, target, run.config.sampling)

    def write(contexts: Contexts, seed: int) -> Completion:
        prompts = {
            "base": contexts.base,
            "teacher": contexts.teacher,
            "reference": contexts.reference,
        }
        return sampler.generate([prompts[name] for name in target.contexts], seed)

    yield write


@contextmanager
def _candidate_writer(run: LoadedRun, candidate: Candidate) -> Iterator[Writer]:
    """Draws from a base or a checkpoint, which reads the question."""
    with candidate.sampler(run.config.sampling) as sampler:
        yield lambda contexts, seed: sampler.generate([contexts.base], [seed])[0]


def _student_step(folder: Path, step: int | None) -> int:
    """Returns that step; None: the newest.  Raises CheckpointError where the run has no checkpoint
    of it, or none at all.
    """
    steps = list_checkpoints(folder)
    if step == 0 or not steps:
        known = f"steps {', '.join(map(str, steps))}" if steps else "no step yet"
        raise CheckpointError(
            "Before the first checkpoint the student is the base: ask for that with --from base. "
            f"{folder} has checkpoints of {known}."
        )
    return chosen_steps(folder, [steps[-1] if step is None else step])[0]


def _new_file(folder: Path, name: str) -> Path:
    """Returns the file of the first number that is free."""
    taken = {int(file.name[:3]) for file in folder.glob("[0-9][0-9][0-9]-*.jsonl")}
    number = next(number for number in count(1) if number not in taken)
    return folder / f"{number:03d}-{name}.jsonl"


def _row(
    run: LoadedRun,
    example: Example,
    contexts: Contexts,
    seed: int,
    completion: Completion,
    origin: dict[str, Any],
) -> CompletionRow:
    return CompletionRow(
        example.id,
        completion.finish_reason,
        cast(str, run.policy.tokenizer.decode(completion.ids)),
        completion.ids,
        seed=seed,
        extras={
            **origin,
            "target": asdict(run.config.purified_target),
            "sampling": asdict(run.config.sampling),
            "problem": example.problem,
            "reference": example.reference,
            "reference_cut": contexts.cut,
            "log_probs": completion.log_probs,
        },
    )
