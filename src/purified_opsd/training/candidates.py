"""What of a run can be evaluated: its base, and every checkpoint, one after another on the same loaded weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict

from purified_opsd.evaluation import Candidate
from purified_opsd.policy import HFSampler, Policy, Sampler, Sampling, frozen

from .checkpoint import CheckpointError, checkpoint_folder, load_adapter, verify


def base_candidate(policy: Policy) -> Candidate:
    """The base: the policy with its adapter off."""

    @contextmanager
    def sampler(sampling: Sampling) -> Iterator[Sampler]:
        with frozen(policy.model):
            yield HFSampler(policy.model, sampling)

    return Candidate("base", policy.fingerprint(), sampler)


def checkpoint_candidates(policy: Policy, run: Path, steps: list[int]) -> list[Candidate]:
    """The checkpoints of a run, each verified.  Raises CheckpointError for one that is damaged, missing, or of another base."""
    model = policy.fingerprint()
    return [_checkpoint_candidate(policy, checkpoint_folder(run, step), model) for step in steps]


def _checkpoint_candidate(policy: Policy, folder: Path, model: str) -> Candidate:
    state = verify(folder)
    if state.model != model:
        raise CheckpointError(
            f"{folder} was trained on another base: its fingerprint is {state.model[:16]}, and the loaded model's is {model[:16]}. "
            "On this one its adapter would mean nothing. Load the model that the run names."
        )
    _refuse_other_adapter(policy, folder)
    adapter = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["adapter/adapter_model.safetensors"]["sha256"]

    @contextmanager
    def sampler(sampling: Sampling) -> Iterator[Sampler]:
        """Takes the adapter that was there out for the while."""
        before = {
            name: tensor.clone() for name, tensor in get_peft_model_state_dict(policy.model, save_embedding_layers=False).items()
        }
        load_adapter(folder, policy)
        try:
            yield HFSampler(policy.model, sampling)
        finally:
            set_peft_model_state_dict(policy.model, before)

    return Candidate(folder.name, f"{model} {adapter}", sampler)


def _refuse_other_adapter(policy: Policy, folder: Path) -> None:
    """A scale that differs would go unseen: the tensors fit, and are added more or less strongly than they were trained."""
    saved = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    loaded = cast(LoraConfig, policy.model.peft_config["default"])
    for name, got, wanted in (("rank", saved["r"], loaded.r), ("alpha", saved["lora_alpha"], loaded.lora_alpha)):
        if got != wanted:
            raise CheckpointError(
                f"{folder / 'adapter'} is an adapter of {name} {got}, and the policy was loaded for {name} {wanted}. Load it with "
                "the adapter settings of the run that it belongs to."
            )
