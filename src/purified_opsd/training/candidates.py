"""What of a run can be evaluated: its base, and every checkpoint, one after another on the same loaded weights."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict

from purified_opsd.data import PromptBuilder, Prompts
from purified_opsd.evaluation import Candidate
from purified_opsd.policy import (
    Engine,
    HFSampler,
    LoRA,
    Model,
    ModelError,
    Policy,
    Sampler,
    Sampling,
    context_length,
    frozen,
    load_policy,
    load_tokenizer,
)

from .checkpoint import CheckpointError, checkpoint_folder, list_checkpoints, load_adapter, verify
from .run import Run

Open = Callable[[Policy, Sampling], Sampler]
"""How a sampler of a policy is come by."""


def in_process(policy: Policy, sampling: Sampling) -> Sampler:
    return HFSampler(policy.model, sampling)


@dataclass(frozen=True)
class Subject:
    """A loaded model, the prompts that suit it, and what of it can be evaluated."""

    prompts: PromptBuilder
    candidates: list[Candidate]


def run_subject(run: Run, folder: Path, steps: Sequence[int] | None, max_new_tokens: int, engine: Engine) -> Subject:
    """The base of a run (step 0) and its checkpoints of these steps; None: all of them.  Drawn from with `engine`.

    Raises CheckpointError for a step that the run has no checkpoint of, or one that is damaged or of another base.
    """
    there = list_checkpoints(folder)
    asked = [0, *there] if steps is None else list(dict.fromkeys(steps))
    missing = [step for step in asked if step not in (0, *there)]
    if missing:
        raise CheckpointError(
            f"{folder} has no checkpoint of step {missing[0]}; it has {', '.join(map(str, there)) or 'none'}, and 0 is the base."
        )
    prompts = _prompts(run.model, run.prompts, max_new_tokens)
    policy = load_policy(run.model, run.adapter, prompts.tokenizer, 0, Accelerator().device)
    draws = partial(engine.open, run.model, longest_prompt=prompts.limit)
    base = [base_candidate(policy, draws)] if 0 in asked else []
    candidates = [*base, *checkpoint_candidates(policy, folder, [step for step in asked if step], draws)]
    return Subject(prompts, [replace(candidate, engine=engine.library) for candidate in candidates])


def model_subject(model: Model, prompts: Prompts, max_new_tokens: int, engine: Engine) -> Subject:
    """A model as it is.  It is loaded with the smallest adapter, which stays off."""
    builder = _prompts(model, prompts, max_new_tokens)
    policy = load_policy(model, LoRA(rank=1, alpha=1, targets=("all-linear",)), builder.tokenizer, 0, Accelerator().device)
    base = base_candidate(policy, partial(engine.open, model, longest_prompt=builder.limit))
    return Subject(builder, [replace(base, engine=engine.library)])


def _prompts(model: Model, prompts: Prompts, max_new_tokens: int) -> PromptBuilder:
    context = context_length(model)
    if context <= max_new_tokens:
        raise ModelError(
            f"{model.path} has a context of {context} tokens, and a completion may take {max_new_tokens}: no room is left for a "
            "question. Lower --max-new-tokens."
        )
    return PromptBuilder(load_tokenizer(model), prompts, context - max_new_tokens)


def base_candidate(policy: Policy, open_sampler: Open = in_process) -> Candidate:
    """The base: the policy with its adapter off."""

    @contextmanager
    def sampler(sampling: Sampling) -> Iterator[Sampler]:
        with frozen(policy.model):
            yield open_sampler(policy, sampling)

    return Candidate("base", policy.fingerprint(), sampler)


def checkpoint_candidates(policy: Policy, run: Path, steps: list[int], open_sampler: Open = in_process) -> list[Candidate]:
    """The checkpoints of a run, each verified.  Raises CheckpointError for one that is damaged, missing, or of another base."""
    model = policy.fingerprint()
    return [_checkpoint_candidate(policy, checkpoint_folder(run, step), model, open_sampler) for step in steps]


def _checkpoint_candidate(policy: Policy, folder: Path, model: str, open_sampler: Open) -> Candidate:
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
            opened = open_sampler(policy, sampling)
            opened.sync(state.step)
            yield opened
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
