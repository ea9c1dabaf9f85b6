"""Checkpoints made ready to sample from: the base of a run, its checkpoints, or an adapter from
elsewhere, one after another on the same loaded weights.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict

from purified_opsd.data.prompts import PromptBuilder, Prompts
from purified_opsd.errors import CheckpointError, ModelError
from purified_opsd.evaluation.requests import Candidate
from purified_opsd.policy.adapters import load_adapted
from purified_opsd.policy.loading import context_length, load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model, Policy, frozen
from purified_opsd.sampling.engines import Engine
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.sampler import Sampler, Sampling
from purified_opsd.storage.run_dir import BASE

from .checkpoint import CheckpointState, checkpoint_folder, list_checkpoints, load_adapter, verify
from .config import TrainingConfig
from .retention import why_missing

OpenSampler = Callable[[Policy, Sampling], Sampler]
"""Opens a sampler of a policy."""


def open_in_process(policy: Policy, sampling: Sampling) -> Sampler:
    """Opens a sampler that draws with the loaded weights themselves."""
    return HFSampler(policy.model, sampling)


@dataclass(frozen=True)
class LoadedModels:
    """A loaded model, the prompts that suit it, and what of it can be evaluated."""

    prompts: PromptBuilder
    candidates: list[Candidate]


def load_run_models(
    config: TrainingConfig,
    folder: Path,
    steps: Sequence[int] | None,
    max_new_tokens: int,
    engine: Engine,
) -> LoadedModels:
    """Loads the base of a run (step 0) and its checkpoints of these steps; None: all of them.
    `engine` draws.

    Raises CheckpointError for a step that the run has no checkpoint of, or one that is damaged or
    of another base.
    """
    steps = chosen_steps(folder, steps)
    prompts = question_prompts(config.model, config.prompts, max_new_tokens)
    policy = load_policy(config.model, config.adapter, prompts.tokenizer, 0, Accelerator().device)
    open_sampler = partial(engine.open, config.model, longest_prompt=prompts.limit)
    candidates = run_candidates(policy, folder, steps, open_sampler)
    return LoadedModels(prompts, _drawn_by(engine, candidates))


def load_bare_model(
    model: Model, prompts: Prompts, max_new_tokens: int, engine: Engine
) -> LoadedModels:
    """Loads a model as it is.  It is loaded with the smallest adapter, which stays off."""
    builder = question_prompts(model, prompts, max_new_tokens)
    smallest = LoRA(rank=1, alpha=1)
    policy = load_policy(model, smallest, builder.tokenizer, 0, Accelerator().device)
    open_sampler = partial(engine.open, model, longest_prompt=builder.limit)
    return LoadedModels(builder, _drawn_by(engine, [base_candidate(policy, open_sampler)]))


def load_adapted_model(
    model: Model, adapter: Path, prompts: Prompts, max_new_tokens: int, engine: Engine
) -> LoadedModels:
    """Loads a model as it is, and with an adapter in PEFT's format.

    Raises ModelError where the adapter is not whole or does not fit, and CheckpointError where it
    is a run's and of another base.
    """
    builder = question_prompts(model, prompts, max_new_tokens)
    policy = load_adapted(model, adapter, builder.tokenizer, Accelerator().device)
    fingerprint = policy.fingerprint()
    if (adapter.parent / "manifest.json").is_file():
        _refuse_other_base(adapter.parent, fingerprint)
    digest = sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    name = adapter.parent.name if adapter.name == "adapter" else adapter.name
    identity = f"{base_identity(fingerprint, policy)} {digest}"
    open_sampler = partial(engine.open, model, longest_prompt=builder.limit)
    adapted = Candidate(
        name, identity, lambda sampling: nullcontext(open_sampler(policy, sampling))
    )
    candidates = [base_candidate(policy, open_sampler), adapted]
    return LoadedModels(builder, _drawn_by(engine, candidates))


def _drawn_by(engine: Engine, candidates: Sequence[Candidate]) -> list[Candidate]:
    return [replace(candidate, engine=engine.library) for candidate in candidates]


def chosen_steps(folder: Path, steps: Sequence[int] | None) -> list[int]:
    """Returns the steps asked for, each once; None: the base, which is 0, and every checkpoint.
    Raises CheckpointError for one without.
    """
    known = [0, *list_checkpoints(folder)]
    chosen = known if steps is None else list(dict.fromkeys(steps))
    missing = [step for step in chosen if step not in known]
    if missing:
        raise CheckpointError(
            f"{folder} has no checkpoint of step {missing[0]}; it has "
            f"{', '.join(map(str, known[1:])) or 'none'}, and 0 is the base."
            f"{why_missing(folder, missing[0])}"
        )
    return chosen


def question_prompts(model: Model, prompts: Prompts, max_new_tokens: int) -> PromptBuilder:
    """Returns a builder of prompts that leave a completion its room.  Raises ModelError where the
    model's context has none for a question.
    """
    context = context_length(model)
    if context <= max_new_tokens:
        raise ModelError(
            f"{model.path} has a context of {context} tokens, and a completion may take "
            f"{max_new_tokens}: no room is left for a question. Lower max_new_tokens."
        )
    return PromptBuilder(load_tokenizer(model), prompts, context - max_new_tokens)


def run_candidates(
    policy: Policy, run: Path, steps: Sequence[int], open_sampler: OpenSampler = open_in_process
) -> list[Candidate]:
    """Returns the base of a run, where 0 is among the steps, and its checkpoints of the others.
    Raises what `checkpoint_candidates` raises.
    """
    base = [base_candidate(policy, open_sampler)] if 0 in steps else []
    trained = [step for step in steps if step]
    return [*base, *checkpoint_candidates(policy, run, trained, open_sampler)]


def base_candidate(policy: Policy, open_sampler: OpenSampler = open_in_process) -> Candidate:
    """Returns the base: the policy with its adapter off."""

    @contextmanager
    def sampler(sampling: Sampling) -> Iterator[Sampler]:
        with frozen(policy.model):
            yield open_sampler(policy, sampling)

    return Candidate(BASE, base_identity(policy.fingerprint(), policy), sampler)


def checkpoint_candidates(
    policy: Policy, run: Path, steps: Sequence[int], open_sampler: OpenSampler = open_in_process
) -> list[Candidate]:
    """Returns the checkpoints of a run, each verified.  Raises CheckpointError for one that is
    damaged, missing, or of another base.
    """
    fingerprint = policy.fingerprint()
    folders = [checkpoint_folder(run, step) for step in steps]
    return [_checkpoint_candidate(policy, folder, fingerprint, open_sampler) for folder in folders]


def base_identity(fingerprint: str, policy: Policy) -> str:
    """Returns what tells a base from all others.  The same weights in another dtype are others:
    they draw other completions.
    """
    return f"{fingerprint} {str(policy.base.dtype).removeprefix('torch.')}"


def adapter_identity(base: str, checkpoint: Path) -> str:
    """Returns what tells a base with a checkpoint's adapter from all others."""
    manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
    return f"{base} {manifest['adapter/adapter_model.safetensors']['sha256']}"


def _checkpoint_candidate(
    policy: Policy, folder: Path, fingerprint: str, open_sampler: OpenSampler
) -> Candidate:
    state = _refuse_other_base(folder, fingerprint)
    _refuse_other_adapter(policy, folder)

    @contextmanager
    def sampler(sampling: Sampling) -> Iterator[Sampler]:
        """Loads the checkpoint's adapter, and puts back the one before it at the end."""
        tensors = get_peft_model_state_dict(policy.model, save_embedding_layers=False)
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        load_adapter(folder, policy)
        try:
            opened = open_sampler(policy, sampling)
            opened.sync(state.step)
            yield opened
        finally:
            set_peft_model_state_dict(policy.model, before)

    identity = adapter_identity(base_identity(fingerprint, policy), folder)
    return Candidate(folder.name, identity, sampler)


def _refuse_other_base(folder: Path, fingerprint: str) -> CheckpointState:
    """Returns the checkpoint's state.  Raises CheckpointError where it is damaged, or was not
    trained on the base of that fingerprint.
    """
    state = verify(folder)
    if state.model != fingerprint:
        raise CheckpointError(
            f"{folder} was trained on another base: its fingerprint is {state.model[:16]}, and the "
            f"loaded model's is {fingerprint[:16]}. On this one its adapter would mean nothing. "
            "Load the model that the run names."
        )
    return state


def _refuse_other_adapter(policy: Policy, folder: Path) -> None:
    """Raises CheckpointError where the policy's adapter has another rank or scale.

    A scale that differs would go unseen: the tensors fit, and are added more or less strongly than
    they were trained.
    """
    saved = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    loaded = cast(LoraConfig, policy.model.peft_config["default"])
    pairs = {"rank": (saved["r"], loaded.r), "alpha": (saved["lora_alpha"], loaded.lora_alpha)}
    for name, (trained_with, loaded_with) in pairs.items():
        if trained_with != loaded_with:
            raise CheckpointError(
                f"{folder / 'adapter'} is an adapter of {name} {trained_with}, and the policy was "
                f"loaded for {name} {loaded_with}. Load it with the adapter settings of the run "
                "that it belongs to."
            )
