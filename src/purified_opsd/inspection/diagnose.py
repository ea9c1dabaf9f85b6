"""The diagnosis of a run: its base and every checkpoint, each on completions of its own.

diagnosis/step-000020.jsonl  one completion a line, with its numbers
diagnosis/step-000020.json   their means with intervals, markers, and what they were made with;
                             written last
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
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
from purified_opsd.storage.completions import CompletionRow, read_completions, write_completions
from purified_opsd.storage.files import locked, read_json, write_atomic
from purified_opsd.training.checkpoint import list_checkpoints
from purified_opsd.training.checkpoint_models import run_candidates
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.setup import LoadedRun, load_run


def diagnose_run(config: TrainingConfig, samples: int, seed: int) -> Path:
    """Diagnoses what is not diagnosed yet, on the first `samples` questions of an order drawn by
    `seed`; returns the folder with it all.

    Raises DataError for more samples than questions, RunError where the folder was made with other
    settings.
    """
    run, folder = load_run(config), config.output_dir / "diagnosis"
    examples = run.choose_examples(samples, seed)
    checkpoints = list_checkpoints(config.output_dir)
    candidates = run_candidates(run.policy, config.output_dir, [0, *checkpoints])
    settings = {
        candidate.name: _settings(run, candidate, samples, seed) for candidate in candidates
    }
    with locked(folder):
        for name in settings:
            refuse_other_settings(folder / f"{name}.json", settings[name])
        pending = [
            candidate
            for candidate in candidates
            if not (folder / f"{candidate.name}.json").exists()
        ]
        for candidate in tqdm(pending, unit="candidate", desc="diagnosis"):
            completions = _diagnose(run, candidate, examples, seed)
            rows = [
                _row(run, example, diagnosed)
                for example, diagnosed in zip(examples, completions, strict=True)
            ]
            write_completions(folder / f"{candidate.name}.jsonl", rows)
            record = {
                "settings": settings[candidate.name],
                "summary": summary([diagnosed.numbers for diagnosed in completions]),
            }
            _write(
                folder / f"{candidate.name}.json",
                {**record, "marker_counts": _markers(rows, config.markers)},
            )
        for name in settings.keys() - {candidate.name for candidate in pending}:
            _recount_markers(folder / name, config.markers)
    return folder


def summary(samples: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Returns, for each number, the mean over completions, its standard error and its 95 %
    interval (None of one completion).
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
    tokens = sum(len(row.completion_ids) for row in rows)
    return marker_counts([row.text for row in rows], tokens, own)


def _recount_markers(diagnosed: Path, own: Sequence[str]) -> None:
    """Counts the markers of a candidate that was diagnosed before, perhaps with others, in the
    completions that are kept.
    """
    rows = list(read_completions(diagnosed.with_suffix(".jsonl")))
    record = read_json(diagnosed.with_suffix(".json"))
    _write(diagnosed.with_suffix(".json"), {**record, "marker_counts": _markers(rows, own)})


def _write(file: Path, record: Mapping[str, Any]) -> None:
    write_atomic(file, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _diagnose(
    run: LoadedRun, candidate: Candidate, examples: Sequence[Example], seed: int
) -> list[Diagnosed]:
    config = run.config
    prompts = [run.prompts.contexts(example) for example in examples]
    with candidate.sampler(config.sampling) as sampler:
        probe = Probe(sampler, config.purified_target, config.micro_batch_tokens, seed)
        return diagnose(run.policy, prompts, probe)


def _settings(run: LoadedRun, candidate: Candidate, samples: int, seed: int) -> dict[str, Any]:
    """Returns all that decides the numbers, and so must not change under those that are kept."""
    return {
        "weights": candidate.identity,
        "training_set": run.examples.fingerprint,
        "sampling": asdict(run.config.sampling),
        "ends": list(candidate.ends),
        "samples": samples,
        "seed": seed,
    }


def refuse_other_settings(file: Path, settings: dict[str, Any]) -> None:
    """Raises RunError where the file exists and was made with other settings."""
    before = read_json(file, "settings")["settings"] if file.exists() else settings
    for name, value in settings.items():
        if before.get(name, value) != value:  # an earlier version recorded fewer
            raise RunError(
                f"{file} was made with {name} = {before.get(name)}, and {value} is asked for: "
                "together they would mean nothing. Ask for what it was made with, or delete "
                f"{file.parent}."
            )


def _row(run: LoadedRun, example: Example, diagnosed: Diagnosed) -> CompletionRow:
    completion = diagnosed.completion
    text = cast(str, run.policy.tokenizer.decode(completion.ids))
    return CompletionRow(
        example.id, completion.finish_reason, text, completion.ids, extras=diagnosed.numbers
    )
