"""Everything a run needs, loaded and checked in the order in which mistakes are cheapest to find."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from accelerate import Accelerator

from purified_opsd.data import WORDING, DataError, Example, Examples, PromptBuilder, load_examples, seed_for
from purified_opsd.policy import Layout, ModelError, Policy, Sampler, context_length, load_policy, load_tokenizer
from purified_opsd.reporting.records import RunError

from .accord import refuse_differences
from .checkpoint import State, checkpoint_folder, load_checkpoint, refuse_changes
from .processes import join
from .run import Run


@dataclass(frozen=True)
class Job:
    """A run with its parts in memory."""

    run: Run
    examples: Examples
    prompts: PromptBuilder
    policy: Policy
    layout: Layout
    model_fingerprint: str
    sampler: Sampler
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator

    def state(self, step: int) -> State:
        """What a checkpoint taken after `step` steps records."""
        settings = {**self.run.identity(), "prompts.wording": WORDING}
        return State(step, self.examples.fingerprint, self.model_fingerprint, settings)

    def refuse_changes(self, saved: State) -> None:
        """Raises CheckpointError if data, model or target are not what they were."""
        refuse_changes(saved, self.state(saved.step))

    def chosen(self, samples: int, seed: int) -> list[Example]:
        """The first `samples` questions of an order drawn by `seed`.  Raises DataError where there are not so many."""
        if not 0 < samples <= len(self.examples.rows):
            raise DataError(
                f"{self.run.data.path} has {len(self.examples.rows)} questions, and --samples asks for {samples}. "
                "Ask for between 1 and that many."
            )
        return self.examples.batch(0, samples, seed)

    def restore(self, saved: State, folder: Path) -> None:
        """Goes back to a checkpoint.  Raises CheckpointError if the run has changed since."""
        self.refuse_changes(saved)
        load_checkpoint(checkpoint_folder(folder, saved.step), self.policy, self.optimizer)


def prepare(run: Run) -> Job:
    """Training set first, then tokenizer and prompts, then weights, then the sampler.

    Raises DataError, TemplateError, ModelError, ServersLost, or RunError where there are more processes than questions a step, or
    one has other settings, data or weights than the rest; writes nothing.
    """
    accelerator = join()
    refuse_differences(run.shared())
    if run.batch_size < accelerator.num_processes:
        raise RunError(
            f"{accelerator.num_processes} processes cannot share a batch_size of {run.batch_size}: each needs a question a step. "
            "Start fewer processes, or raise batch_size."
        )
    examples = load_examples(run.data)
    tokenizer = load_tokenizer(run.model)
    room = context_length(run.model) - run.sampling.max_new_tokens
    if room < 1:
        raise ModelError(
            f"{run.model.path} has a context of {room + run.sampling.max_new_tokens} tokens, and sampling.max_new_tokens takes "
            f"{run.sampling.max_new_tokens}: no room is left for a prompt. Lower sampling.max_new_tokens."
        )
    prompts = PromptBuilder(tokenizer, run.prompts, room)
    for example in examples.rows:
        prompts.check(example)
    device = accelerator.device
    policy = load_policy(run.model, run.adapter, tokenizer, seed_for(run.seed, "adapter"), run.sharding.loads_on(device))
    model_fingerprint = policy.fingerprint()
    refuse_differences(
        {
            "training set": examples.fingerprint,
            "prompt of the first question": sha256(repr(prompts.contexts(examples.rows[0])).encode()).hexdigest(),
            "model": model_fingerprint,
            "fresh adapter": policy.adapter_fingerprint(),
        }
    )
    layout = run.sharding.spread(policy, device)
    with layout.together(), layout.whole_head():
        sampler = run.sampler.open(run.model, policy, run.sampling, prompts.limit)
        sampler.sync(0)  # an adapter that does not fit is found now
    return Job(
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
