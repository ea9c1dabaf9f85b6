"""Starting a run, and going on with one."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from tqdm import tqdm

from purified_opsd.distributed.process_group import check_same_on_all_ranks
from purified_opsd.errors import RunError
from purified_opsd.policy.lora_targets import describe
from purified_opsd.settings.build import to_mapping, to_yaml
from purified_opsd.storage.environment import environment
from purified_opsd.storage.files import Json, locked
from purified_opsd.storage.run_dir import RunReader, RunWriter, refuse_existing

from .changes import (
    AcceptChanges,
    change_lines,
    changed_settings,
    changes_since,
    not_recorded,
    recorded_with,
    refuse_changes,
)
from .checkpoint import CheckpointState, checkpoint_folder, manifest_digest, newest_valid
from .collapse import say_at_the_end
from .config import TrainingConfig, with_absolute_paths
from .periodic_eval import EvalSetup, PeriodicEvaluator, evaluation_pending, setup_evaluation
from .retention import update_checkpoints
from .setup import FROM_FILES, TrainingSetup, setup_training
from .trackers import Trackers, refuse_missing_trackers
from .train import train


def start_run(config: TrainingConfig) -> int:
    """Trains from the beginning, Section 3.2 of the paper step by step.  Nothing is written before
    data and model are loaded and checked.

    Returns the signal that came during the last step, or 0.  Raises RunError where the output
    directory holds a run, DataError and ModelError where data or model cannot be used, Interrupted
    where a signal came, and FloatingPointError where training diverged.
    """
    refuse_existing(config.output_dir)
    refuse_missing_trackers(config.trackers)
    eval_setup = setup_evaluation(config)
    setup = setup_training(config)
    setup.accelerator.wait_for_everyone()  # all look at the folder before one of them makes it
    with _lock_on_main_process(setup, config.output_dir):
        _say_what_is_trained(setup, config)
        writer = RunWriter(config.output_dir)
        if setup.accelerator.is_main_process:
            writer.begin(to_yaml(config), _data_record(setup, config))
        return _train(setup, eval_setup, config, writer, first_step=0)


def resume_run(
    config: TrainingConfig, folder: Path, accept_changes: AcceptChanges = refuse_changes
) -> int:
    """Goes on from the newest good checkpoint of a run directory (docs/metrics.md says what is in
    one); on CPU the result is, bit for bit, that of a run never stopped.

    `accept_changes` decides on settings, training set and base that are not as they were;
    `permit_changes` lets pass, for the record, all but those with which no checkpoint would fit.

    Returns the signal that came during the last step, or 0.  Raises CheckpointError where changes
    are refused, and RunError where nothing is left to do, or not all processes have the same to go
    on from.
    """
    # 1. What needs no weights is refused before they are loaded.
    reader = RunReader(folder)
    record = reader.changes()
    saved, _ = newest_valid(folder)
    if saved:
        _refuse_finished(saved.step, config, reader)
    before = saved or _beginning(reader)
    named = {name: value for name, value in before.settings.items() if name not in FROM_FILES}
    changed = changed_settings(before.step, named, config.identity())
    accept_changes(folder, not_recorded(changed, record))
    refuse_missing_trackers(config.trackers)
    # 2. Training set and base, which are checked by what they hold.
    eval_setup = setup_evaluation(config)
    setup = setup_training(config)
    with _lock_on_main_process(setup, folder):
        saved = _newest(setup, folder)
        before = saved or _beginning(reader)
        changes = changes_since(before, setup.state(before.step))
        accept_changes(folder, not_recorded(changes, record))
        if saved:
            setup.restore(saved, folder)
        # 3. The run is again what it was after that step, and says what is changed from there on.
        _say(setup, f"{folder}: going on after step {before.step} of {config.steps}")
        for line in change_lines(changes):
            _say(setup, f"Changed after step {before.step}: {line}")
        writer = RunWriter(folder)
        if setup.accelerator.is_main_process:
            writer.rewind(before.step)
            writer.changes(recorded_with(record, changes))
            writer.config(to_yaml(with_absolute_paths(config)))
            update_checkpoints(writer, before.step, keep=None)
        return _train(setup, eval_setup, config, writer, before.step)


def _refuse_finished(taken: int, config: TrainingConfig, reader: RunReader) -> None:
    """Raises RunError where no step is left, and no evaluation."""
    steps, folder = config.steps, reader.folder
    if taken < steps or (taken == steps and evaluation_pending(config, folder, taken)):
        return
    planned = reader.settings().get("steps")
    if steps == planned == taken:
        raise RunError(
            f"{folder} has taken all its {steps} steps. Go on with `purified-opsd resume {folder} "
            "--steps N`."
        )
    fewer = "fewer" if steps < taken else "no more"
    raise RunError(
        f"{folder} has taken {taken} of {planned} steps, and --steps {steps} is {fewer}: there is "
        f"nothing to do, and nothing was changed. --steps counts from the beginning; go on with "
        f"`purified-opsd resume {folder} --steps N`, N above {taken}."
    )


def _beginning(reader: RunReader) -> CheckpointState:
    """Returns the state of a run that has no checkpoint yet."""
    record = reader.data()
    return CheckpointState(
        0, record["fingerprint"], record["model_fingerprint"], record["settings"]
    )


def _say_what_is_trained(setup: TrainingSetup, config: TrainingConfig) -> None:
    model, examples = Path(config.model.path).name, setup.examples
    _say(
        setup,
        f"{config.arm} on {model}: {len(examples.rows)} examples, {config.steps} steps of "
        f"{config.batch_size}",
    )
    _say(setup, describe(setup.policy))
    if examples.skipped:
        _say(setup, f"{examples.skipped} bad rows were left out.")
    for shape, count in examples.shapes.items():
        _say(setup, f"{count} rows were read by their shape: {shape}.")
    if setup.control_text:
        _say(
            setup,
            f"{setup.control_text} of {len(examples.rows)} rows spell a control token, such as "
            "<|im_end|>: in their prompts it is text, and ends no turn.",
        )
    for remark in setup.prompts.remarks():
        _say(setup, remark)
    if isinstance(setup.policy.head, torch.nn.Linear):
        _say(setup, "The head is linear.")
    else:
        _say(
            setup,
            "The head is not plainly linear: the loss projects every distribution by it.",
        )


def _data_record(setup: TrainingSetup, config: TrainingConfig) -> Json:
    """Returns what data.json says of the run: what it is trained on, and from which weights."""
    return {
        "path": config.data.path,
        "rows": len(setup.examples.rows),
        "skipped": setup.examples.skipped,
        "shapes": setup.examples.shapes,
        "fingerprint": setup.examples.fingerprint,
        "wording": setup.prompts.wording,
        "chat_template": setup.prompts.template.fingerprint,
        "control_text": setup.control_text,
        "model_fingerprint": setup.model_fingerprint,
        "settings": setup.state(0).settings,
    }


def _newest(setup: TrainingSetup, folder: Path) -> CheckpointState | None:
    """Returns the newest good checkpoint, which must be the same for all processes."""
    saved, damaged = newest_valid(folder)
    for reason in damaged:
        _say(setup, f"Passed over: {reason}")
    newest = "none"
    if saved:
        digest = manifest_digest(checkpoint_folder(folder, saved.step))
        newest = f"step {saved.step} ({digest[:16]})"
    check_same_on_all_ranks({"newest good checkpoint": newest})
    return saved


def _train(
    setup: TrainingSetup,
    eval_setup: EvalSetup | None,
    config: TrainingConfig,
    writer: RunWriter,
    first_step: int,
) -> int:
    main = setup.accelerator.is_main_process
    if main:
        device_name = _device_name(setup.accelerator.device)
        writer.start(environment(device_name, setup.accelerator.num_processes))
    trackers = Trackers(config.trackers if main else (), writer.folder, to_mapping(config))
    evaluator = PeriodicEvaluator(setup, eval_setup, writer, trackers)
    stopping = train(setup, evaluator, writer, trackers, first_step)
    _say(setup, f"Finished {config.steps} steps. Everything is in {writer.folder}.")
    if main:
        say_at_the_end(RunReader(writer.folder).metrics())
    return stopping


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _lock_on_main_process(setup: TrainingSetup, folder: Path) -> AbstractContextManager[None]:
    """The main process holds the run directory for all."""
    return locked(folder) if setup.accelerator.is_main_process else nullcontext()


def _say(setup: TrainingSetup, line: str) -> None:
    if setup.accelerator.is_main_process:
        tqdm.write(line)
