"""What a run needs, loaded and checked in the order in which mistakes are cheapest to find.

`load_run` loads what any command on a run needs: training set, prompts and policy.
`setup_training` adds what only training needs: the other processes, the sampler, the optimizer.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from accelerate import Accelerator

from purified_opsd.data.dataset import Example, Examples, load_examples
from purified_opsd.data.prompts import PromptBuilder
from purified_opsd.data.seeds import seed_for
from purified_opsd.distributed.process_group import check_same_on_all_ranks, init_distributed
from purified_opsd.distributed.sharding import Layout
from purified_opsd.errors import DataError, ModelError, RunError
from purified_opsd.policy.loading import context_length, load_policy, load_tokenizer
from purified_opsd.policy.model import Policy
from purified_opsd.policy.turn_end import eos_ids
from purified_opsd.sampling.sampler import Sampler

from .checkpoint import CheckpointState, checkpoint_folder, load_checkpoint
from .config import TrainingConfig

WORDING, CHAT_TEMPLATE, ENDS = "prompts.wording", "prompts.chat_template", "sampling.ends"
FROM_FILES = (WORDING, CHAT_TEMPLATE, ENDS)
"""What changes the student as a setting does, and takes tokenizer and model to know."""


@dataclass(frozen=True)
class LoadedRun:
    """A run's training set, prompts and policy in memory: what any command on a run needs."""

    config: TrainingConfig
    examples: Examples
    prompts: PromptBuilder
    policy: Policy
    model_fingerprint: str

    def choose_examples(self, samples: int, seed: int) -> list[Example]:
        """Returns the first `samples` questions of an order drawn by `seed`.  Raises DataError
        where there are not so many.
        """
        if not 0 < samples <= len(self.examples.rows):
            raise DataError(
                f"{self.config.data.path} has {len(self.examples.rows)} questions, and --samples "
                f"asks for {samples}. Ask for between 1 and that many."
            )
        return self.examples.batch(0, samples, seed)


def load_run(config: TrainingConfig, device: torch.device | None = None) -> LoadedRun:
    """Loads the training set first, then tokenizer and prompts, then the weights, whole, on
    `device`; None: where accelerate puts a single process.

    Opens no sampler and writes nothing.  Raises DataError, TemplateError or ModelError.
    """
    examples = load_examples(config.data)
    tokenizer = load_tokenizer(config.model)
    max_new_tokens = config.sampling.max_new_tokens
    longest_prompt = context_length(config.model) - max_new_tokens
    if longest_prompt < 1:
        raise ModelError(
            f"{config.model.path} has a context of {longest_prompt + max_new_tokens} tokens, and "
            f"sampling.max_new_tokens takes {max_new_tokens}: no room is left for a prompt. Lower "
            "sampling.max_new_tokens."
        )
    prompts = PromptBuilder(tokenizer, config.prompts, longest_prompt)
    for example in examples.rows:
        prompts.check(example)
    policy = load_policy(
        config.model,
        config.adapter,
        tokenizer,
        seed_for(config.seed, "adapter"),
        device or Accelerator().device,
    )
    return LoadedRun(config, examples, prompts, policy, policy.fingerprint())


@dataclass(frozen=True)
class TrainingSetup:
    """A loaded run with what trains it: its sampler, its optimizer and the processes it lies on."""

    config: TrainingConfig
    examples: Examples
    prompts: PromptBuilder
    policy: Policy
    model_fingerprint: str
    layout: Layout
    sampler: Sampler
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator

    def state(self, step: int) -> CheckpointState:
        """Returns what a checkpoint taken after `step` steps records."""
        settings = {
            **self.config.identity(),
            WORDING: self.prompts.wording,
            CHAT_TEMPLATE: self.prompts.template.fingerprint,
            ENDS: ", ".join(map(str, eos_ids(self.policy.base))),
        }
        return CheckpointState(step, self.examples.fingerprint, self.model_fingerprint, settings)

    @cached_property
    def control_text(self) -> int:
        """Rows that spell a control token, which stays text in their prompts."""
        spells = self.prompts.spells_control
        return sum(spells(row.problem, row.reference) for row in self.examples.rows)

    def restore(self, saved: CheckpointState, folder: Path) -> None:
        """Puts the adapter and the optimizer's state of a verified checkpoint in place."""
        load_checkpoint(checkpoint_folder(folder, saved.step), self.policy, self.optimizer)


def setup_training(config: TrainingConfig) -> TrainingSetup:
    """Joins the processes, loads the run, spreads its base over them, opens the sampler.

    Raises what `load_run` raises, ServersLost, or RunError where there are more processes than
    questions a step, or one has other settings, data or weights than the rest; writes nothing.
    """
    accelerator = init_distributed()
    check_same_on_all_ranks(config.shared())
    if config.batch_size < accelerator.num_processes:
        raise RunError(
            f"{accelerator.num_processes} processes cannot share a batch_size of "
            f"{config.batch_size}: each needs a question a step. Start fewer processes, or raise "
            "batch_size."
        )
    run = load_run(config, config.sharding.loading_device(accelerator.device))
    check_same_on_all_ranks(_fingerprints(run))
    layout = config.sharding.apply(run.policy, accelerator.device)
    with layout.synced_forwards(), layout.gathered_head():
        sampler = config.sampler.open(config.model, run.policy, config.sampling, run.prompts.limit)
        sampler.sync(0)  # an adapter that does not fit is found now
    return TrainingSetup(
        config=config,
        examples=run.examples,
        prompts=run.prompts,
        policy=run.policy,
        model_fingerprint=run.model_fingerprint,
        layout=layout,
        sampler=sampler,
        optimizer=config.optimizer.build(list(run.policy.adapter_parameters().values())),
        accelerator=accelerator,
    )


def _fingerprints(run: LoadedRun) -> dict[str, str]:
    """Returns, by name, what each process has read for itself and all must have alike."""
    first_prompt = repr(run.prompts.contexts(run.examples.rows[0]))
    return {
        "training set": run.examples.fingerprint,
        "prompt of the first question": sha256(first_prompt.encode()).hexdigest(),
        "model": run.model_fingerprint,
        "fresh adapter": run.policy.adapter_fingerprint(),
    }
