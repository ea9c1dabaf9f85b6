"""The diagnosis of a run: its base and every checkpoint, each on completions of its own.

diagnosis/step-000020.jsonl  one completion a line, with its numbers diagnosis/step-000020.json
their means with intervals, markers, and what they were made with; written last
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from tqdm import tqdm

from purified_opsd.analysis.markers import marker_counts
from purified_opsd.analysis.teacher_signal import Diagnosed, Probe, diagnose
from purified_opsd.data.dataset import Example
from purified_opsd.errors import RunError
from purified_opsd.evaluation.requests import Candidate
from purified_opsd.evaluation.statistics import Array, average_of
from purified_opsd.sampling.hf import HF
from purified_opsd.storage.completions import CompletionRow, read_completions, write_completions
from purified_opsd.storage.files import locked, read_json, write_atomic
from purified_opsd.training.checkpoint import list_checkpoints
from purified_opsd.training.checkpoint_models import base_candidate, checkpoint_candidates
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.setup import TrainingSetup, setup_training


def diagnose_run(run: TrainingConfig, samples: int, seed: int) -> Path:
    """Diagnoses what is not diagnosed yet, on the first `samples` questions of an order drawn by
    `seed`; the folder with it all.

    Raises DataError for more samples than questions, RunError where the folder was made with other
    settings.
    """
    job, folder = setup_training(replace(run, sampler=HF())), run.output_dir / "diagnosis"
    examples = job.chosen(samples, seed)
    candidates = [
        base_candidate(job.policy),
        *checkpoint_candidates(job.policy, run.output_dir, list_checkpoints(run.output_dir)),
    ]
    settings = {
        candidate.name: _settings(job, candidate, samples, seed) for candidate in candidates
    }
    with locked(folder):
        for name in settings:
            refuse_other_settings(folder / f"{name}.json", settings[name])
        owed = [
            candidate
            for candidate in candidates
            if not (folder / f"{candidate.name}.json").exists()
        ]
        for candidate in tqdm(owed, unit="candidate", desc="diagnosis"):
            found = _diagnosed(job, candidate, examples, seed)
            rows = [
                _row(job, example, diagnosed)
                for example, diagnosed in zip(examples, found, strict=True)
            ]
            write_completions(folder / f"{candidate.name}.jsonl", rows)
            record = {
                "settings": settings[candidate.name],
                "summary": summary([diagnosed.numbers for diagnosed in found]),
            }
            _write(
                folder / f"{candidate.name}.json",
                {**record, "marker_counts": _markers(rows, run.markers)},
            )
        for name in settings.keys() - {candidate.name for candidate in owed}:
            _count_anew(folder / name, run.markers)
    return folder


def summary(samples: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Of each number: the mean over completions, its standard error and its 95 % interval (None of
    one completion).
    """
    return {name: _estimate(np.array([sample[name] for sample in samples])) for name in samples[0]}


def _estimate(values: Array) -> dict[str, float | None]:
    around = average_of([values])
    mean = float(values.mean())
    if around is None:
        return {"mean": mean, "standard_error": None, "low": None, "high": None}
    return {
        "mean": mean,
        "standard_error": around.standard_error,
        "low": around.low,
        "high": around.high,
    }


def _markers(rows: Sequence[CompletionRow], own: Sequence[str]) -> dict[str, Any]:
    return marker_counts(
        [row.text for row in rows], sum(len(row.completion_ids) for row in rows), own
    )


def _count_anew(diagnosed: Path, own: Sequence[str]) -> None:
    """The markers of a candidate that was diagnosed before, perhaps with others: counting costs no
    completion.
    """
    rows = list(read_completions(diagnosed.with_suffix(".jsonl")))
    record = read_json(diagnosed.with_suffix(".json"))
    _write(diagnosed.with_suffix(".json"), {**record, "marker_counts": _markers(rows, own)})


def _write(file: Path, record: Mapping[str, Any]) -> None:
    write_atomic(file, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _diagnosed(
    job: TrainingSetup, candidate: Candidate, examples: Sequence[Example], seed: int
) -> list[Diagnosed]:
    run = job.run
    prompts = [job.prompts.contexts(example) for example in examples]
    with candidate.sampler(run.sampling) as sampler:
        return diagnose(
            job.policy, prompts, Probe(sampler, run.purified_target, run.micro_batch_tokens, seed)
        )


def _settings(job: TrainingSetup, candidate: Candidate, samples: int, seed: int) -> dict[str, Any]:
    """All that decides the numbers, and so must not change under those that are there."""
    return {
        "weights": candidate.identity,
        "training_set": job.examples.fingerprint,
        "sampling": asdict(job.run.sampling),
        "samples": samples,
        "seed": seed,
    }


def refuse_other_settings(file: Path, settings: dict[str, Any]) -> None:
    """Raises RunError where the file is there and was made with others."""
    before = read_json(file, "settings")["settings"] if file.exists() else settings
    for name, value in settings.items():
        if before.get(name) != value:
            raise RunError(
                f"{file} was made with {name} = {before.get(name)}, and {value} is asked for: "
                "together they would mean nothing. Ask for what it was made with, or delete "
                f"{file.parent}."
            )


def _row(job: TrainingSetup, example: Example, diagnosed: Diagnosed) -> CompletionRow:
    completion = diagnosed.completion
    text = cast(str, job.policy.tokenizer.decode(completion.ids))
    return CompletionRow(
        example.id, completion.finish_reason, text, completion.ids, extras=diagnosed.numbers
    )
