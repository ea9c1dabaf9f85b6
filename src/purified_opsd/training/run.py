"""Starting a run, and going on with one."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import yaml
from tqdm import tqdm

from purified_opsd.data.prompts import WORDING
from purified_opsd.distributed.process_group import check_same_on_all_ranks
from purified_opsd.errors import RunError
from purified_opsd.storage.environment import environment
from purified_opsd.storage.files import Json, locked
from purified_opsd.storage.run_dir import RunReader, RunWriter, refuse_existing

from .checkpoint import CheckpointState, checkpoint_folder, manifest_digest, newest_valid
from .config import TrainingConfig
from .periodic_eval import EvalSetup, PeriodicEvaluator, evaluation_pending, setup_evaluation
from .setup import TrainingSetup, setup_training
from .trackers import Trackers
from .train import train


def start_run(run: TrainingConfig, config: str) -> int:
    """Trains from the beginning; `config` is the run as YAML.  Nothing is written before data and
    model are loaded and checked.

    Returns the signal that came during the last step, or 0.
    """
    refuse_existing(run.output_dir)
    sheet, job = setup_evaluation(run), setup_training(run)
    job.accelerator.wait_for_everyone()  # all have looked at the folder before one of them makes it
    with _owned(job, run.output_dir):
        name, rows = Path(run.model.path).name, len(job.examples.rows)
        _say(job, f"{run.arm} on {name}: {rows} examples, {run.steps} steps of {run.batch_size}")
        if job.examples.skipped:
            _say(job, f"{job.examples.skipped} bad rows were left out.")
        linear = isinstance(job.policy.head, torch.nn.Linear)
        _say(
            job,
            "The head is "
            f"{'linear' if linear else 'not plainly linear: the loss takes the general path'}.",
        )
        record = {
            "path": run.data.path,
            "rows": len(job.examples.rows),
            "skipped": job.examples.skipped,
            "fingerprint": job.examples.fingerprint,
            "wording": WORDING,
            "model_fingerprint": job.model_fingerprint,
            "settings": job.state(0).settings,
        }
        writer = RunWriter(run.output_dir)
        if job.accelerator.is_main_process:
            writer.begin(config, record)
        return _train(job, sheet, writer, config, first_step=0)


def resume_run(run: TrainingConfig, folder: Path, config: str) -> int:
    """Goes on from the newest good checkpoint; on CPU the result is, bit for bit, that of a run
    never stopped.

    Returns the signal that came during the last step, or 0. Raises CheckpointError where data,
    model or target have changed, and RunError where nothing is left to do, or not all processes
    have the same to go on from.
    """
    record = RunReader(folder).data()
    saved, _ = newest_valid(folder)
    if saved and saved.step >= run.steps and not evaluation_pending(run, folder, saved.step):
        raise RunError(
            f"{folder} has taken all its {run.steps} steps. Go on with `purified-opsd resume "
            f"{folder} --steps N`."
        )
    sheet, job = setup_evaluation(run), setup_training(run)
    with _owned(job, folder):
        first_step = _go_back(job, folder, record)
        _say(job, f"{folder}: going on after step {first_step} of {run.steps}")
        writer = RunWriter(folder)
        if job.accelerator.is_main_process:
            writer.rewind(first_step)
            writer.config(config)
        return _train(job, sheet, writer, config, first_step)


def _go_back(job: TrainingSetup, folder: Path, record: Json) -> int:
    """To the newest good checkpoint, or the beginning; the steps that were taken until then."""
    saved, damage = newest_valid(folder)
    for passed_over in damage:
        _say(job, f"Passed over: {passed_over}")
    newest = (
        f"step {saved.step} ({manifest_digest(checkpoint_folder(folder, saved.step))[:16]})"
        if saved
        else "none"
    )
    check_same_on_all_ranks({"newest good checkpoint": newest})
    if saved:
        job.restore(saved, folder)
        return saved.step
    job.refuse_changes(
        CheckpointState(0, record["fingerprint"], record["model_fingerprint"], record["settings"])
    )
    return 0


def _train(
    job: TrainingSetup, sheet: EvalSetup | None, writer: RunWriter, config: str, first_step: int
) -> int:
    device, main = job.accelerator.device, job.accelerator.is_main_process
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )
    if main:
        writer.start(environment(name, job.accelerator.num_processes))
    trackers = Trackers(job.config.trackers if main else (), writer.folder, yaml.safe_load(config))
    stopping = train(
        job, PeriodicEvaluator(job, sheet, writer, trackers), writer, trackers, first_step
    )
    _say(job, f"Finished {job.config.steps} steps. Everything is in {writer.folder}.")
    return stopping


def _owned(job: TrainingSetup, folder: Path) -> AbstractContextManager[None]:
    """The main process holds the run directory for all."""
    return locked(folder) if job.accelerator.is_main_process else nullcontext()


def _say(job: TrainingSetup, line: str) -> None:
    if job.accelerator.is_main_process:
        tqdm.write(line)
