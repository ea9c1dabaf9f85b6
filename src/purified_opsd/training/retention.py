"""Which checkpoints of a run are kept, and which is the best by its evaluations."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from purified_opsd.storage.run_dir import BestCheckpoint, CheckpointRecord, RunReader, RunWriter

from .checkpoint import checkpoint_folder, list_checkpoints


def best_checkpoint(evaluations: Sequence[Mapping[str, Any]]) -> BestCheckpoint | None:
    """Returns the checkpoint of highest mean accuracy over the benchmarks, the earliest of several;
    None where none was evaluated.

    Evaluations on other benchmarks than the last one's do not count: their means cannot be
    compared.
    """
    if not evaluations:
        return None
    benchmarks = evaluations[-1]["evaluation"].keys()
    comparable = [
        row for row in evaluations if row["step"] and row["evaluation"].keys() == benchmarks
    ]
    if not comparable:
        return None
    means = {row["step"]: _mean_accuracy(row["evaluation"]) for row in comparable}
    best = max(means, key=lambda step: (means[step], -step))
    return BestCheckpoint(best, means[best], len(means))


def update_checkpoints(writer: RunWriter, step: int, keep: int | None) -> None:
    """Records which checkpoint is the best after `step` steps, and deletes all but the newest
    `keep` and that one; None: no checkpoint is deleted.

    Checkpoints of later steps, which a run that went back has yet to take again, do not count.
    """
    # 1. What there is, and what is the best of it.
    folder = writer.folder
    reader = RunReader(folder)
    evaluations = [row for row in reader.evaluations() if row["step"] <= step]
    best = best_checkpoint(evaluations)
    there = [number for number in list_checkpoints(folder) if number <= step]
    # 2. What is to go is written down first: a kill in between leaves too much, and says so.
    kept = there if keep is None else there[-keep:]
    deleted = [number for number in there if number not in kept and number != _step(best)]
    before = [number for number in reader.checkpoints().deleted if number <= step]
    gone = sorted({*before, *deleted} - {number for number in there if number not in deleted})
    writer.checkpoints(CheckpointRecord(best, tuple(gone)))
    # 3. Each leaves its name at once: half a checkpoint is never found under it.
    for number in deleted:
        _delete(checkpoint_folder(folder, number))


def why_missing(folder: Path, step: int) -> str:
    """Returns why a run has no checkpoint of a step that it once had, as a sentence that begins
    with a space; nothing where it never had one.
    """
    if step not in RunReader(folder).checkpoints().deleted:
        return ""
    return (
        f" That of step {step} was deleted after newer ones were saved: the run keeps only the "
        "newest (keep_checkpoints) and the best by evaluation."
    )


def _mean_accuracy(evaluation: Mapping[str, Mapping[str, float]]) -> float:
    return fmean(numbers["accuracy"] for numbers in evaluation.values())


def _step(best: BestCheckpoint | None) -> int | None:
    return best.step if best else None


def _delete(checkpoint: Path) -> None:
    leaving = checkpoint.with_name(f".{checkpoint.name}.deleted")
    shutil.rmtree(leaving, ignore_errors=True)
    checkpoint.rename(leaving)
    shutil.rmtree(leaving)
