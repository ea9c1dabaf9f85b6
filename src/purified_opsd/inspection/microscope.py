"""A few completions of a run's base and checkpoints, token by token, for reading.

microscope/step-000020/000.json  one completion: what five distributions make of each of its tokens
(docs/microscope.md) microscope.html                  all of them on one page, which needs nothing
else
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm

from purified_opsd.analysis.markers import MARKERS
from purified_opsd.analysis.teacher_signal import hidden_states
from purified_opsd.analysis.token_readout import TokenReadout, read_tokens
from purified_opsd.analysis.token_text import marker_spans, token_text
from purified_opsd.data.dataset import Example
from purified_opsd.data.prompts import Contexts
from purified_opsd.data.seeds import seed_for
from purified_opsd.evaluation.requests import Candidate
from purified_opsd.policy.lm_head import ModelHead
from purified_opsd.reporting.microscope import page, read_trajectories
from purified_opsd.sampling.sampler import Completion
from purified_opsd.storage.completions import CompletionRow, read_completion, write_completion
from purified_opsd.storage.files import locked, write_atomic
from purified_opsd.training.checkpoint_models import (
    base_candidate,
    checkpoint_candidates,
    chosen_steps,
)
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.setup import TrainingSetup, setup_training

from .diagnose import refuse_other_settings

DIGITS = 4
"""Significant ones of every number in the files."""


@dataclass(frozen=True)
class Slide:
    """One completion to be drawn and looked at."""

    candidate: Candidate
    example: Example
    seed: int
    file: Path
    settings: dict[str, Any]
    """All that decides what is in the file."""


def microscope_run(
    run: TrainingConfig, steps: Sequence[int] | None, samples: int, seed: int
) -> Path:
    """Draws and reads what is not there yet, on the first `samples` questions of an order drawn by
    `seed`; the page's path.

    `steps`: which checkpoints, 0 for the base; None for all.  Raises DataError for more samples
    than questions, CheckpointError for a step without a checkpoint, RunError where a file was made
    with other settings.
    """
    asked, job, folder = (
        chosen_steps(run.output_dir, steps),
        setup_training(run),
        run.output_dir / "microscope",
    )
    examples = job.chosen(samples, seed)
    slides = [
        slide
        for candidate in _candidates(job, asked)
        for slide in _slides(job, candidate, examples, seed)
    ]
    with locked(folder):
        for slide in slides:
            refuse_other_settings(slide.file, slide.settings)
        owed = [slide for slide in slides if not slide.file.exists()]
        for slide in slides:
            if slide not in owed:
                _mark_anew(slide.file, [*MARKERS, *run.markers])
        for slide, trajectory in tqdm(
            _looked_at(job, owed), total=len(owed), unit="completion", desc="microscope"
        ):
            slide.file.parent.mkdir(exist_ok=True)
            write_completion(slide.file, trajectory)
        write_atomic(
            folder.with_suffix(".html"),
            page(read_trajectories(run.output_dir), run.output_dir.name),
        )
    return folder.with_suffix(".html")


def _candidates(job: TrainingSetup, steps: Sequence[int]) -> list[Candidate]:
    base = [base_candidate(job.policy)] if 0 in steps else []
    return [
        *base,
        *checkpoint_candidates(job.policy, job.run.output_dir, [step for step in steps if step]),
    ]


def _slides(
    job: TrainingSetup, candidate: Candidate, examples: Sequence[Example], seed: int
) -> Iterator[Slide]:
    """The same questions and seeds for every candidate."""
    settings = {
        "weights": candidate.identity,
        "training_set": job.examples.fingerprint,
        "sampling": asdict(job.run.sampling),
        "target": asdict(job.run.purified_target),
        "seed": seed,
    }
    folder = job.run.output_dir / "microscope" / candidate.name
    for place, example in enumerate(examples):
        yield Slide(
            candidate,
            example,
            seed_for(seed, "microscope", place),
            folder / f"{place:03d}.json",
            settings,
        )


def _looked_at(
    job: TrainingSetup, slides: Sequence[Slide]
) -> Iterator[tuple[Slide, CompletionRow]]:
    """One candidate after another: its completions are drawn together, then read one by one."""
    head = ModelHead(job.policy.base)
    for _, group in groupby(slides, key=lambda slide: slide.candidate.name):
        yield from _of_candidate(job, head, list(group))


def _of_candidate(
    job: TrainingSetup, head: ModelHead, slides: Sequence[Slide]
) -> Iterator[tuple[Slide, CompletionRow]]:
    prompts = [job.prompts.contexts(slide.example) for slide in slides]
    with slides[0].candidate.sampler(job.run.sampling) as sampler:
        completions = sampler.generate(
            [p.base for p in prompts], [slide.seed for slide in slides]
        )
        for slide, context, completion in zip(slides, prompts, completions, strict=True):
            hidden_ND = hidden_states(
                job.policy, [context], [completion.ids], job.run.micro_batch_tokens
            )
            ids_N = torch.tensor(completion.ids, device=job.policy.model.device)
            readings = read_tokens(hidden_ND, ids_N, head, job.run.purified_target)
            yield slide, _trajectory(job, slide, context, completion, readings)


def _trajectory(
    job: TrainingSetup,
    slide: Slide,
    context: Contexts,
    completion: Completion,
    readings: Sequence[TokenReadout],
) -> CompletionRow:
    """What is kept of one completion: docs/microscope.md tells each name."""
    tokenizer = job.policy.tokenizer
    told = {token for reading in readings for token in reading.tokens}
    vocabulary = {token: token_text(tokenizer, token) for token in sorted(told)}
    return CompletionRow(
        slide.example.id,
        completion.finish_reason,
        cast(str, tokenizer.decode(completion.ids)),
        completion.ids,
        seed=slide.seed,
        extras={
            "settings": slide.settings,
            "candidate": slide.candidate.name,
            "arm": job.run.arm,
            "problem": slide.example.problem,
            "reference": slide.example.reference,
            "reference_cut": context.cut,
            "markers": marker_spans(
                [vocabulary[token] for token in completion.ids], [*MARKERS, *job.run.markers]
            ),
            "vocabulary": vocabulary,
            "tokens": [
                {"text": vocabulary[reading.id], **_rounded(asdict(reading))}
                for reading in readings
            ],
        },
    )


def _mark_anew(file: Path, markers: Sequence[str]) -> None:
    """The markers of a completion that was looked at before, perhaps with others."""
    row = read_completion(file, "markers", "tokens")
    found = [
        list(span)
        for span in marker_spans([token["text"] for token in row.extras["tokens"]], markers)
    ]
    if found != row.extras["markers"]:
        write_completion(file, replace(row, extras={**row.extras, "markers": found}))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inside) for name, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inside) for inside in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
