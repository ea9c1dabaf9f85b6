"""What of a run can be evaluated: its base, and every checkpoint, one after another on the same
loaded weights.
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
from purified_opsd.evaluation.sample_store import BASE
from purified_opsd.policy.adapters import load_adapted
from purified_opsd.policy.loading import context_length, load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model, Policy, frozen
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.sampler import Engine, Sampler, Sampling

from .checkpoint import CheckpointState, checkpoint_folder, list_checkpoints, load_adapter, verify
from .config import TrainingConfig

Open = Callable[[Policy, Sampling], Sampler]
"""How a sampler of a policy is come by."""


def in_process(policy: Policy, sampling: Sampling) -> Sampler:
    return HFSampler(policy.model, sampling)


@dataclass(frozen=True)
class LoadedModels:
    """A loaded model, the prompts that suit it, and what of it can be evaluated."""

    prompts: PromptBuilder
    candidates: list[Candidate]


def load_run_models(
    run: TrainingConfig,
    folder: Path,
    steps: Sequence[int] | None,
    max_new_tokens: int,
    engine: Engine,
) -> LoadedModels:
    """The base of a run (step 0) and its checkpoints of these steps; None: all of them.  Drawn from
    with `engine`.

    Raises CheckpointError for a step that the run has no checkpoint of, or one that is damaged or
    of another base.
    """
    asked = chosen_steps(folder, steps)
    prompts = question_prompts(run.model, run.prompts, max_new_tokens)
    policy = load_policy(run.model, run.adapter, prompts.tokenizer, 0, Accelerator().device)
    draws = partial(engine.open, run.model, longest_prompt=prompts.limit)
    base = [base_candidate(policy, draws)] if 0 in asked else []
    candidates = [
        *base,
        *checkpoint_candidates(policy, folder, [step for step in asked if step], draws),
    ]
    return LoadedModels(
        prompts, [replace(candidate, engine=engine.library) for candidate in candidates]
    )


def chosen_steps(folder: Path, steps: Sequence[int] | None) -> list[int]:
    """The steps asked for, each once; None: the base, which is 0, and every checkpoint.  Raises
    CheckpointError for one without.
    """
    there = list_checkpoints(folder)
    asked = [0, *there] if steps is None else list(dict.fromkeys(steps))
    missing = [step for step in asked if step not in (0, *there)]
    if missing:
        raise CheckpointError(
            f"{folder} has no checkpoint of step {missing[0]}; it has "
            f"{', '.join(map(str, there)) or 'none'}, and 0 is the base."
        )
    return asked


def load_bare_model(
    model: Model, prompts: Prompts, max_new_tokens: int, engine: Engine
) -> LoadedModels:
    """A model as it is.  It is loaded with the smallest adapter, which stays off."""
    builder = question_prompts(model, prompts, max_new_tokens)
    policy = load_policy(
        model,
        LoRA(rank=1, alpha=1, targets=("all-linear",)),
        builder.tokenizer,
        0,
        Accelerator().device,
    )
    base = base_candidate(policy, partial(engine.open, model, longest_prompt=builder.limit))
    return LoadedModels(builder, [replace(base, engine=engine.library)])


def load_adapted_model(
    model: Model, adapter: Path, prompts: Prompts, max_new_tokens: int, engine: Engine
) -> LoadedModels:
    """A model as it is, and with an adapter in PEFT's format.

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
    draws = partial(engine.open, model, longest_prompt=builder.limit)
    adapted = Candidate(name, identity, lambda sampling: nullcontext(draws(policy, sampling)))
    return LoadedModels(
        builder,
        [
            replace(found, engine=engine.library)
            for found in (base_candidate(policy, draws), adapted)
        ],
    )


def question_prompts(model: Model, prompts: Prompts, max_new_tokens: int) -> PromptBuilder:
    """Prompts that leave a completion its room.  Raises ModelError where the model's context has
    none for a question.
    """
    context = context_length(model)
    if context <= max_new_tokens:
        raise ModelError(
            f"{model.path} has a context of {context} tokens, and a completion may take "
            f"{max_new_tokens}: no room is left for a question. Lower max_new_tokens."
        )
    return PromptBuilder(load_tokenizer(model), prompts, context - max_new_tokens)


def base_candidate(policy: Policy, open_sampler: Open = in_process) -> Candidate:
    """The base: the policy with its adapter off."""

    @contextmanager
    def sampler(sampling: Sampling) -> Iterator[Sampler]:
        with frozen(policy.model):
            yield open_sampler(policy, sampling)

    return Candidate(BASE, base_identity(policy.fingerprint(), policy), sampler)


def base_identity(fingerprint: str, policy: Policy) -> str:
    """The same weights in another dtype are others: they draw other completions."""
    return f"{fingerprint} {str(policy.base.dtype).removeprefix('torch.')}"


def adapter_identity(base: str, checkpoint: Path) -> str:
    """Of a base with a checkpoint's adapter."""
    manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
    return f"{base} {manifest['adapter/adapter_model.safetensors']['sha256']}"


def checkpoint_candidates(
    policy: Policy, run: Path, steps: list[int], open_sampler: Open = in_process
) -> list[Candidate]:
    """The checkpoints of a run, each verified.  Raises CheckpointError for one that is damaged,
    missing, or of another base.
    """
    model = policy.fingerprint()
    return [
        _checkpoint_candidate(policy, checkpoint_folder(run, step), model, open_sampler)
        for step in steps
    ]


def _checkpoint_candidate(
    policy: Policy, folder: Path, model: str, open_sampler: Open
) -> Candidate:
    state = _refuse_other_base(folder, model)
    _refuse_other_adapter(policy, folder)

    @contextmanager
    def sampler(sampling: Sampling) -> Iterator[Sampler]:
        """Takes the adapter that was there out for the while."""
        before = {
            name: tensor.clone()
            for name, tensor in get_peft_model_state_dict(
                policy.model, save_embedding_layers=False
            ).items()
        }
        load_adapter(folder, policy)
        try:
            opened = open_sampler(policy, sampling)
            opened.sync(state.step)
            yield opened
        finally:
            set_peft_model_state_dict(policy.model, before)

    return Candidate(folder.name, adapter_identity(base_identity(model, policy), folder), sampler)


def _refuse_other_base(folder: Path, model: str) -> CheckpointState:
    """The checkpoint's state.  Raises CheckpointError where it is damaged, or was not trained on
    the base of that fingerprint.
    """
    state = verify(folder)
    if state.model != model:
        raise CheckpointError(
            f"{folder} was trained on another base: its fingerprint is {state.model[:16]}, and the "
            f"loaded model's is {model[:16]}. On this one its adapter would mean nothing. Load the "
            "model that the run names."
        )
    return state


def _refuse_other_adapter(policy: Policy, folder: Path) -> None:
    """A scale that differs would go unseen: the tensors fit, and are added more or less strongly
    than they were trained.
    """
    saved = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    loaded = cast(LoraConfig, policy.model.peft_config["default"])
    for name, got, wanted in (
        ("rank", saved["r"], loaded.r),
        ("alpha", saved["lora_alpha"], loaded.lora_alpha),
    ):
        if got != wanted:
            raise CheckpointError(
                f"{folder / 'adapter'} is an adapter of {name} {got}, and the policy was loaded "
                f"for {name} {wanted}. Load it with the adapter settings of the run that it "
                "belongs to."
            )
