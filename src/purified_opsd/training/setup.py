"""Everything a run needs, loaded and checked in the order in which mistakes are cheapest to find."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from accelerate import Accelerator

from purified_opsd.data.dataset import Example, Examples, load_examples
from purified_opsd.data.prompts import WORDING, PromptBuilder
from purified_opsd.data.seeds import seed_for
from purified_opsd.distributed.fsdp import Layout
from purified_opsd.distributed.process_group import check_same_on_all_ranks, init_distributed
from purified_opsd.errors import DataError, ModelError, RunError
from purified_opsd.policy.loading import context_length, load_policy, load_tokenizer
from purified_opsd.policy.model import Policy
from purified_opsd.sampling.sampler import Sampler

from .checkpoint import CheckpointState, checkpoint_folder, load_checkpoint, refuse_changes
from .config import TrainingConfig


@dataclass(frozen=True)
class TrainingSetup:
    """A run with its parts in memory."""

    run: TrainingConfig
    examples: Examples
    prompts: PromptBuilder
    policy: Policy
    layout: Layout
    model_fingerprint: str
    sampler: Sampler
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator

    def state(self, step: int) -> CheckpointState:
        """What a checkpoint taken after `step` steps records."""
        settings = {**self.run.identity(), "prompts.wording": WORDING}
        return CheckpointState(step, self.examples.fingerprint, self.model_fingerprint, settings)

    def refuse_changes(self, saved: CheckpointState) -> None:
        """Raises CheckpointError if data, model or target are not what they were."""
        refuse_changes(saved, self.state(saved.step))

    def chosen(self, samples: int, seed: int) -> list[Example]:
        """The first `samples` questions of an order drawn by `seed`.  Raises DataError where there
        are not so many.
        """
        if not 0 < samples <= len(self.examples.rows):
            raise DataError(
                f"{self.run.data.path} has {len(self.examples.rows)} questions, and --samples asks "
                f"for {samples}. Ask for between 1 and that many."
            )
        return self.examples.batch(0, samples, seed)

    def restore(self, saved: CheckpointState, folder: Path) -> None:
        """Goes back to a checkpoint.  Raises CheckpointError if the run has changed since."""
        self.refuse_changes(saved)
        load_checkpoint(checkpoint_folder(folder, saved.step), self.policy, self.optimizer)


def setup_training(run: TrainingConfig) -> TrainingSetup:
    """Training set first, then tokenizer and prompts, then weights, then the sampler.

    Raises DataError, TemplateError, ModelError, ServersLost, or RunError where there are more
    processes than questions a step, or one has other settings, data or weights than the rest;
    writes nothing.
    """
    accelerator = init_distributed()
    check_same_on_all_ranks(run.shared())
    if run.batch_size < accelerator.num_processes:
        raise RunError(
            f"{accelerator.num_processes} processes cannot share a batch_size of {run.batch_size}: "
            "each needs a question a step. Start fewer processes, or raise batch_size."
        )
    examples = load_examples(run.data)
    tokenizer = load_tokenizer(run.model)
    room = context_length(run.model) - run.sampling.max_new_tokens
    if room < 1:
        raise ModelError(
            f"{run.model.path} has a context of {room + run.sampling.max_new_tokens} tokens, and "
            f"sampling.max_new_tokens takes {run.sampling.max_new_tokens}: no room is left for a "
            "prompt. Lower sampling.max_new_tokens."
        )
    prompts = PromptBuilder(tokenizer, run.prompts, room)
    for example in examples.rows:
        prompts.check(example)
    device = accelerator.device
    policy = load_policy(
        run.model,
        run.adapter,
        tokenizer,
        seed_for(run.seed, "adapter"),
        run.sharding.loads_on(device),
    )
    model_fingerprint = policy.fingerprint()
    check_same_on_all_ranks(
        {
            "training set": examples.fingerprint,
            "prompt of the first question": sha256(
                repr(prompts.contexts(examples.rows[0])).encode()
            ).hexdigest(),
            "model": model_fingerprint,
            "fresh adapter": policy.adapter_fingerprint(),
        }
    )
    layout = run.sharding.spread(policy, device)
    with layout.synced_forwards(), layout.gathered_head():
        sampler = run.sampler.open(run.model, policy, run.sampling, prompts.limit)
        sampler.sync(0)  # an adapter that does not fit is found now
    return TrainingSetup(
        run=run,
        examples=examples,
        prompts=prompts,
        policy=policy,
        layout=layout,
        model_fingerprint=model_fingerprint,
        sampler=sampler,
        optimizer=run.optimizer.build(list(policy.adapter_parameters().values())),
        accelerator=accelerator,
    )
