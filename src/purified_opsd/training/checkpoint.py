"""Checkpoints of a run: a directory a step, complete or absent.

    step-000050/
      adapter/              PEFT's own format; opens in PEFT and vLLM as it is
      optimizer.safetensors AdamW's moments and counts
      state.json            the step, and what a resumed run must find unchanged
      manifest.json         size and sha256 of every other file, written last

A checkpoint is written under a temporary name, flushed and renamed.  Nothing is pickled.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from purified_opsd.errors import CheckpointError
from purified_opsd.policy.model import Policy
from purified_opsd.storage.run_dir import is_step_name, step_name, step_of


@dataclass(frozen=True)
class CheckpointState:
    """Where a run stands after `step` steps, and what its continuation must find unchanged."""

    step: int
    data: str
    """The fingerprint of the training set."""
    model: str
    """The fingerprint of the base's weights."""
    settings: dict[str, str]
    """Every setting that decides which student the run is after, by dotted name."""


def checkpoint_folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / step_name(step)


def save_checkpoint(
    run: Path, state: CheckpointState, policy: Policy, optimizer: torch.optim.Optimizer
) -> Path:
    """Writes the checkpoint of `state.step`; until its rename, nothing under its name exists."""
    # 1. Everything under a temporary name.
    final = checkpoint_folder(run, state.step)
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    policy.model.save_pretrained(str(temporary / "adapter"), save_embedding_layers=False)
    tensors = _optimizer_tensors(policy, optimizer)
    save_file(tensors, temporary / "optimizer.safetensors")
    _write_json(temporary / "state.json", asdict(state))
    # 2. The manifest of all that.
    manifest = _manifest(temporary)
    _write_json(temporary / "manifest.json", manifest)
    # 3. On the disk, before it gets its name.
    for path in [*temporary.rglob("*"), temporary]:
        _flush(path)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    _flush(final.parent)
    return final


def list_checkpoints(run: Path) -> list[int]:
    """Returns the steps with a checkpoint, good or damaged, oldest first."""
    folders = (run / "checkpoints").glob("*")
    names = [folder.name for folder in folders]
    return sorted(step_of(name) for name in names if is_step_name(name))


def verify(folder: Path) -> CheckpointState:
    """Reads the state of a checkpoint whose every file is as the manifest says.  Raises
    CheckpointError otherwise.
    """
    manifest_file = folder / "manifest.json"
    if not manifest_file.is_file():
        raise CheckpointError(
            f"{folder} has no manifest.json: it was never finished, or is no checkpoint."
        )
    try:
        manifest = _load_json(manifest_file)
        for name, entry in manifest.items():
            _verify_file(folder / name, entry)
        state = _load_json(folder / "state.json")
        return CheckpointState(**state)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise CheckpointError(f"{folder} is damaged: {error}.") from error


def _verify_file(file: Path, entry: object) -> None:
    actual = _manifest_entry(file) if file.is_file() else None
    if actual != entry:
        there = actual or "nothing"
        raise CheckpointError(f"{file} is damaged: {entry} was written, {there} is there.")


def newest_valid(run: Path) -> tuple[CheckpointState | None, list[str]]:
    """Returns the newest checkpoint that verifies, and what was wrong with those passed over."""
    damage: list[str] = []
    for step in reversed(list_checkpoints(run)):
        folder = checkpoint_folder(run, step)
        try:
            return verify(folder), damage
        except CheckpointError as error:
            damage.append(str(error))
    return None, damage


def manifest_digest(folder: Path) -> str:
    """Returns the digest of a checkpoint's manifest, which holds that of every file."""
    manifest = (folder / "manifest.json").read_bytes()
    return sha256(manifest).hexdigest()


def load_checkpoint(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
    """Puts a verified checkpoint's adapter and optimizer state in place."""
    load_adapter(folder, policy)
    parameters = policy.adapter_parameters()
    tensors = load_file(folder / "optimizer.safetensors")
    for key, tensor in tensors.items():
        name, _, kind = key.rpartition(":")
        parameter = parameters[name]
        # AdamW keeps its count of steps on the CPU.
        on_device = tensor if kind == "step" else tensor.to(parameter.device)
        optimizer.state[parameter][kind] = on_device


def load_adapter(folder: Path, policy: Policy) -> None:
    """Puts a checkpoint's adapter in place.  Raises CheckpointError where it does not fit the
    model.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    expected = get_peft_model_state_dict(policy.model, save_embedding_layers=False)
    if _shapes(tensors) != _shapes(expected):
        raise CheckpointError(
            f"{folder / 'adapter'} does not fit the model: it holds {len(tensors)} tensors, "
            f"{len(expected)} are expected, or their shapes differ. Its rank, targets or base are "
            "others than this run's adapter settings say."
        )
    set_peft_model_state_dict(policy.model, tensors)


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _optimizer_tensors(policy: Policy, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What `load_checkpoint` reads: every parameter's state, as `parameter:kind`."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in policy.adapter_parameters().items():
        state = optimizer.state.get(parameter, {})
        for kind, value in state.items():
            tensors[f"{name}:{kind}"] = value.detach().contiguous()
    return tensors


def _load_json(file: Path) -> Any:
    text = file.read_text(encoding="utf-8")
    return json.loads(text)


def _write_json(file: Path, value: Mapping[str, object]) -> None:
    text = json.dumps(value, indent=2) + "\n"
    file.write_text(text, encoding="utf-8")


def _manifest(folder: Path) -> dict[str, dict[str, int | str]]:
    """The entries of all files there are, by path."""
    manifest: dict[str, dict[str, int | str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            manifest[name] = _manifest_entry(path)
    return manifest


def _manifest_entry(file: Path) -> dict[str, int | str]:
    digest = sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    size = file.stat().st_size
    return {"bytes": size, "sha256": digest.hexdigest()}


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
