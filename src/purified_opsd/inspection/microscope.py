"""A few completions of a run's base and checkpoints, token by token, for reading.

microscope/step-000020/000.json  one completion: what five distributions make of each of its
                                 tokens (docs/microscope.md)
microscope.html                  all of them on one page, which needs nothing else
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
from purified_opsd.training.checkpoint_models import chosen_steps, run_candidates
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.setup import LoadedRun, load_run

from .diagnose import refuse_other_settings

DIGITS = 4
"""The significant digits of every number in the files."""


@dataclass(frozen=True)
class Specimen:
    """One completion to draw, to read token by token, and to keep in a file."""

    candidate: Candidate
    example: Example
    seed: int
    file: Path
    settings: dict[str, Any]
    """All that decides what is in the file: it must not change under what is kept."""


def microscope_run(
    config: TrainingConfig, steps: Sequence[int] | None, samples: int, seed: int
) -> Path:
    """Draws and reads what is missing, on the first `samples` questions of an order drawn by
    `seed`; returns the page's path.

    `steps`: which checkpoints, 0 for the base; None for all.  Raises DataError for more samples
    than questions, CheckpointError for a step without a checkpoint, RunError where a file was made
    with other settings.
    """
    steps = chosen_steps(config.output_dir, steps)
    run, folder = load_run(config), config.output_dir / "microscope"
    examples = run.choose_examples(samples, seed)
    specimens = [
        specimen
        for candidate in run_candidates(run.policy, config.output_dir, steps)
        for specimen in _specimens(run, candidate, examples, seed)
    ]
    with locked(folder):
        for specimen in specimens:
            refuse_other_settings(specimen.file, specimen.settings)
        pending = [specimen for specimen in specimens if not specimen.file.exists()]
        for specimen in specimens:
            if specimen not in pending:
                _remark(specimen.file, [*MARKERS, *config.markers])
        for specimen, trajectory in tqdm(
            _read_all(run, pending), total=len(pending), unit="completion", desc="microscope"
        ):
            specimen.file.parent.mkdir(exist_ok=True)
            write_completion(specimen.file, trajectory)
        write_atomic(
            folder.with_suffix(".html"),
            page(read_trajectories(config.output_dir), config.output_dir.name),
        )
    return folder.with_suffix(".html")


def _specimens(
    run: LoadedRun, candidate: Candidate, examples: Sequence[Example], seed: int
) -> Iterator[Specimen]:
    """Yields the same questions and seeds for every candidate."""
    settings = {
        "weights": candidate.identity,
        "training_set": run.examples.fingerprint,
        "sampling": asdict(run.config.sampling),
        "target": asdict(run.config.purified_target),
        "seed": seed,
    }
    folder = run.config.output_dir / "microscope" / candidate.name
    for index, example in enumerate(examples):
        own_seed = seed_for(seed, "microscope", index)
        yield Specimen(candidate, example, own_seed, folder / f"{index:03d}.json", settings)


def _read_all(
    run: LoadedRun, specimens: Sequence[Specimen]
) -> Iterator[tuple[Specimen, CompletionRow]]:
    """Takes one candidate after another: its completions are drawn together, then read one by
    one.
    """
    head = ModelHead(run.policy.base)
    for _, group in groupby(specimens, key=lambda specimen: specimen.candidate.name):
        yield from _read_candidate(run, head, list(group))


def _read_candidate(
    run: LoadedRun, head: ModelHead, specimens: Sequence[Specimen]
) -> Iterator[tuple[Specimen, CompletionRow]]:
    config = run.config
    prompts = [run.prompts.contexts(specimen.example) for specimen in specimens]
    seeds = [specimen.seed for specimen in specimens]
    with specimens[0].candidate.sampler(config.sampling) as sampler:
        completions = sampler.generate([contexts.base for contexts in prompts], seeds)
        for specimen, contexts, completion in zip(specimens, prompts, completions, strict=True):
            hidden_ND = hidden_states(
                run.policy, [contexts], [completion.ids], config.micro_batch_tokens
            )
            ids_N = torch.tensor(completion.ids, device=run.policy.model.device)
            readouts = read_tokens(hidden_ND, ids_N, head, config.purified_target)
            yield specimen, _trajectory(run, specimen, contexts, completion, readouts)


def _trajectory(
    run: LoadedRun,
    specimen: Specimen,
    contexts: Contexts,
    completion: Completion,
    readouts: Sequence[TokenReadout],
) -> CompletionRow:
    """Returns what is kept of one completion: docs/microscope.md tells each name."""
    tokenizer = run.policy.tokenizer
    token_ids = {token for readout in readouts for token in readout.tokens}
    vocabulary = {token: token_text(tokenizer, token) for token in sorted(token_ids)}
    texts = [vocabulary[token] for token in completion.ids]
    return CompletionRow(
        specimen.example.id,
        completion.finish_reason,
        cast(str, tokenizer.decode(completion.ids)),
        completion.ids,
        seed=specimen.seed,
        extras={
            "settings": specimen.settings,
            "candidate": specimen.candidate.name,
            "arm": run.config.arm,
            "problem": specimen.example.problem,
            "reference": specimen.example.reference,
            "reference_cut": contexts.cut,
            "markers": marker_spans(texts, [*MARKERS, *run.config.markers]),
            "vocabulary": vocabulary,
            "tokens": [
                {"text": vocabulary[readout.id], **_rounded(asdict(readout))}
                for readout in readouts
            ],
        },
    )


def _remark(file: Path, markers: Sequence[str]) -> None:
    """Marks a completion that was read before, perhaps with other markers."""
    row = read_completion(file, "markers", "tokens")
    texts = [token["text"] for token in row.extras["tokens"]]
    spans = [list(span) for span in marker_spans(texts, markers)]
    if spans != row.extras["markers"]:
        write_completion(file, replace(row, extras={**row.extras, "markers": spans}))


def _rounded(value: Any) -> Any:
    """Returns a JSON value with every number rounded to `DIGITS`."""
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
