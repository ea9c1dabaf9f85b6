"""The diagnosis of a run: its base and every checkpoint, each on completions of its own.

diagnosis/step-000020.jsonl  one completion a line, with its numbers
diagnosis/step-000020.json   their means and standard errors, and what they were made with; written last
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from purified_opsd.analysis.diagnosis import Diagnosed, Probe, diagnose, summary
from purified_opsd.data import DataError, Example
from purified_opsd.evaluation import Candidate
from purified_opsd.objective import PMITarget
from purified_opsd.policy import HF
from purified_opsd.reporting.records import RunError, json_line, locked, write_whole

from .candidates import base_candidate, checkpoint_candidates
from .checkpoint import list_checkpoints
from .job import Job, prepare
from .run import Run


def diagnose_run(run: Run, samples: int, seed: int) -> Path:
    """Diagnoses what is not diagnosed yet, on the first `samples` questions of an order drawn by `seed`; the folder with it all.

    Raises DataError for more samples than questions, RunError where the folder was made with other settings.
    """
    job, folder = prepare(replace(run, sampler=HF())), run.output_dir / "diagnosis"
    if not 0 < samples <= len(job.examples.rows):
        raise DataError(
            f"{run.data.path} has {len(job.examples.rows)} questions, and --samples asks for {samples}. "
            "Ask for between 1 and that many."
        )
    examples = job.examples.batch(0, samples, seed)
    candidates = [base_candidate(job.policy), *checkpoint_candidates(job.policy, run.output_dir, list_checkpoints(run.output_dir))]
    settings = {candidate.name: _settings(job, candidate, samples, seed) for candidate in candidates}
    with locked(folder):
        for name in settings:
            _refuse_changes(folder / f"{name}.json", settings[name])
        owed = [candidate for candidate in candidates if not (folder / f"{candidate.name}.json").exists()]
        for candidate in tqdm(owed, unit="candidate", desc="diagnosis"):
            found = _diagnosed(job, candidate, examples, seed)
            rows = [_row(job, example, diagnosed) for example, diagnosed in zip(examples, found, strict=True)]
            write_whole(folder / f"{candidate.name}.jsonl", "".join(map(json_line, rows)))
            record = {"settings": settings[candidate.name], "summary": summary([diagnosed.numbers for diagnosed in found])}
            write_whole(folder / f"{candidate.name}.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    return folder


def _diagnosed(job: Job, candidate: Candidate, examples: Sequence[Example], seed: int) -> list[Diagnosed]:
    run = job.run
    target = run.target if isinstance(run.target, PMITarget) else PMITarget()
    prompts = [job.prompts.contexts(example) for example in examples]
    with candidate.sampler(run.sampling) as sampler:
        return diagnose(job.policy, prompts, Probe(sampler, target, run.micro_batch_tokens, seed))


def _settings(job: Job, candidate: Candidate, samples: int, seed: int) -> dict[str, Any]:
    """All that decides the numbers, and so must not change under those that are there."""
    return {
        "weights": candidate.identity,
        "training_set": job.examples.fingerprint,
        "sampling": asdict(job.run.sampling),
        "samples": samples,
        "seed": seed,
    }


def _refuse_changes(file: Path, settings: dict[str, Any]) -> None:
    before = json.loads(file.read_text(encoding="utf-8"))["settings"] if file.exists() else settings
    for name, value in settings.items():
        if before[name] != value:
            raise RunError(
                f"{file} was made with {name} = {before[name]}, and {value} is asked for: side by side they would mean nothing. "
                f"Ask for what it was made with, or delete {file.parent}."
            )


def _row(job: Job, example: Example, diagnosed: Diagnosed) -> dict[str, Any]:
    ids = diagnosed.completion.ids
    text = job.policy.tokenizer.decode(ids)
    return {"id": example.id, "ended": diagnosed.completion.ended, "text": text, "completion_ids": ids, **diagnosed.numbers}
