"""On-policy self-distillation, Section 3.2 of the paper.

`train` takes a run's steps.  `training_step` is one pass of the algorithm; its parts follow it in
the order in which they run.  Steps 1 to 6 are the paper's.

B sequences of the global batch, N completion tokens of a micro-batch laid end to end, D hidden
size.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any

import torch
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from purified_opsd.analysis.teacher_signal import measure
from purified_opsd.data.seeds import seed_for
from purified_opsd.distributed.process_group import raise_on_any_rank, sum_gradients
from purified_opsd.errors import Interrupted, ModelError, OffPolicyError, ServersLost, Stopped
from purified_opsd.interrupts import StopRequest
from purified_opsd.objective.chunked_loss import LossTerms, chunked_terms
from purified_opsd.policy.model import frozen
from purified_opsd.policy.scoring import completion_hidden, contexts_hidden, micro_batches
from purified_opsd.storage.run_dir import RunReader, RunWriter

from .checkpoint import save_checkpoint
from .collapse import CollapseWatch
from .metrics import StepTimer, decode, rollout_rows, step_metrics
from .mismatch import mismatch_of
from .periodic_eval import PeriodicEvaluator
from .retention import update_checkpoints
from .rollouts import Rollout, ScoredRollout, StepResult, batch_index_N, score_rollouts
from .setup import TrainingSetup
from .step_bar import StepBar
from .trackers import Trackers


def train(
    setup: TrainingSetup,
    evaluator: PeriodicEvaluator,
    writer: RunWriter,
    trackers: Trackers,
    first_step: int,
) -> int:
    """Takes every step from `first_step` (counted from 0) to the end, each recorded, with
    checkpoints and evaluations on the way.

    Returns the signal that came during the last step, for those with more to do, or 0.  Raises
    Interrupted after a SIGINT or SIGTERM, once the step under way is finished and saved, and
    Stopped where a step cannot be taken for want of good completions, once the step before is
    saved.
    """
    config, is_main = setup.config, setup.accelerator.is_main_process
    setup.policy.model.train()
    rows = RunReader(writer.folder).metrics() if is_main else []
    collapse = CollapseWatch(config.collapse_limits, rows)
    progress = tqdm(initial=first_step, total=config.steps, unit="step", disable=not is_main)
    bar = StepBar(progress)
    stopped_by = 0
    with StopRequest() as stop, progress, closing(trackers):
        evaluator.run_if_due(first_step, stop)
        for number in range(first_step + 1, config.steps + 1):
            with _saved(setup, writer, number - 1, first_step), bar.drawing(_own_batch(setup)):
                step = training_step(setup, number - 1)
            if is_main:
                row = _record(setup, writer, step, number, collapse)
                trackers.log(row)
                bar.step(row)
            stopped_by = max(gather_object([stop.signal]))
            if is_main and (config.saves(number) or stopped_by):
                save_checkpoint(writer.folder, setup.state(number), setup.policy, setup.optimizer)
            setup.accelerator.wait_for_everyone()
            if stopped_by and number < config.steps:
                raise Interrupted(stopped_by, number)
            evaluator.run_if_due(number, stop)
            if is_main and config.saves(number):
                update_checkpoints(writer, number, config.keep_checkpoints)
    return stopped_by


def training_step(setup: TrainingSetup, step: int) -> StepResult:
    """Takes one step of the algorithm, counted from 0: completions, targets, loss, update."""
    config, accelerator = setup.config, setup.accelerator
    timer = StepTimer(accelerator.device)
    torch.manual_seed(seed_for(config.seed, "dropout", step, accelerator.process_index))

    # Step 1: the student writes a completion to each question.
    with (
        timer("rollout"),
        raise_on_any_rank(accelerator),
        setup.layout.synced_forwards(),
        setup.layout.gathered_head(),
    ):
        setup.sampler.sync(step)
        rollouts = sample_rollouts(setup, step)

    # Every token's weight is fixed before any split, so no split changes the gradient.
    weight_B = token_weights(setup, rollouts)

    own_scores: list[ScoredRollout] = []
    with raise_on_any_rank(accelerator), setup.layout.synced_forwards():
        lengths = [rollout.tokens for rollout in rollouts]
        for indices in micro_batches(lengths, config.micro_batch_tokens):
            micro_batch = [rollouts[i] for i in indices]
            weight_N = weight_B[batch_index_N(micro_batch)]
            # Step 1: the frozen base reads the completions under each context.
            with timer("frozen"), frozen(setup.policy.model):
                contexts_ND = score_contexts(setup, micro_batch)
            # Steps 1 to 6: the student reads them with a graph; target, loss, gradient.
            with timer("student"):
                terms = distillation_loss(setup, micro_batch, weight_N, contexts_ND)
                terms.loss.backward()
            own_scores += score_rollouts(micro_batch, weight_N, terms)

    scored = sorted(gather_object(own_scores), key=lambda rollout: rollout.index)
    config.alarm.check(mismatch_of(scored), step + 1)
    decompositions = []
    if config.decompose_per_step:
        with timer("decomposition"):
            decompositions = decompose(setup, rollouts)

    # Step 6: the student is updated.
    with timer("optimizer"):
        learning_rate, grad_norm = update(setup, step)
    return StepResult(
        rollouts=scored,
        grad_norm=grad_norm,
        learning_rate=learning_rate,
        seconds=timer.seconds,
        decompositions=gather_object(decompositions),
    )


def sample_rollouts(setup: TrainingSetup, step: int) -> list[Rollout]:
    """Samples ŷ ~ π_θ(·|q) for this process's questions of the step's batch.  Step 1."""
    config, accelerator = setup.config, setup.accelerator
    batch = setup.examples.batch(step, config.batch_size, config.seed)
    indices = range(accelerator.process_index, len(batch), accelerator.num_processes)
    prompts = [setup.prompts.contexts(batch[index]) for index in indices]
    seeds = [seed_for(config.seed, "rollout", step, index) for index in indices]
    completions = setup.sampler.generate([contexts.base for contexts in prompts], seeds)
    return [
        Rollout(index, batch[index], contexts, seed, completion)
        for index, contexts, seed, completion in zip(
            indices, prompts, seeds, completions, strict=True
        )
    ]


def token_weights(setup: TrainingSetup, rollouts: Sequence[Rollout]) -> Float[Tensor, " B"]:
    """Returns the weight in the loss of each token of sequence b, from the completion lengths of
    the whole global batch.
    """
    own_lengths = [(rollout.index, len(rollout.completion.ids)) for rollout in rollouts]
    lengths = [length for _, length in sorted(gather_object(own_lengths))]
    return setup.config.averaging(torch.tensor(lengths))


def score_contexts(
    setup: TrainingSetup, rollouts: Sequence[Rollout]
) -> dict[str, Float[Tensor, "N D"]]:
    """Returns the frozen base's hidden states of the same completions under each context that the
    target asks for.  Step 1.
    """
    prompts = {
        "teacher": [rollout.prompts.teacher for rollout in rollouts],
        "reference": [rollout.prompts.reference for rollout in rollouts],
        "base": [rollout.prompts.base for rollout in rollouts],
    }
    return contexts_hidden(
        setup.policy.model,
        {name: prompts[name] for name in setup.config.target.contexts},
        [rollout.completion.ids for rollout in rollouts],
        setup.config.micro_batch_tokens,
    )


def distillation_loss(
    setup: TrainingSetup,
    rollouts: Sequence[Rollout],
    weight_N: Float[Tensor, " N"],
    contexts_ND: Mapping[str, Float[Tensor, "N D"]],
) -> LossTerms:
    """Returns Σ_n w_n D(π_θ ‖ P_target), with gradients tracked through the student.

    Step 1 (the student's pass) and Steps 2 to 6; Eq. 18.
    """
    config = setup.config
    completions = [rollout.completion.ids for rollout in rollouts]
    questions = [rollout.prompts.base for rollout in rollouts]
    student_ND = completion_hidden(setup.policy.model, questions, completions)
    token_N = torch.tensor(list(chain(*completions)), device=student_ND.device)
    with setup.layout.gathered_head():
        return chunked_terms(
            student_ND,
            contexts_ND,
            setup.policy.head,
            weight_N=weight_N.float().to(student_ND.device),
            token_N=token_N,
            target=config.target,
            divergence=config.divergence,
            temperature=config.loss_temperature,
            kernels=config.kernels,
            chunk_rows=config.chunk_rows,
        )


def decompose(setup: TrainingSetup, rollouts: Sequence[Rollout]) -> list[dict[str, float]]:
    """Measures what pulls the student on the first completions of the batch, as it is before the
    update.  Section 2.4; Fig. 3.
    """
    config = setup.config
    first = [rollout for rollout in rollouts if rollout.index < config.decompose_per_step]
    diagnosed = measure(
        setup.policy,
        [rollout.prompts for rollout in first],
        [rollout.completion for rollout in first],
        config.purified_target,
        config.micro_batch_tokens,
    )
    return [completion.numbers for completion in diagnosed]


def update(setup: TrainingSetup, step: int) -> tuple[float, float]:
    """Sums the gradient over the processes, clips it, takes the optimizer's step.  Step 6.

    Returns the learning rate and the norm before clipping.
    """
    config = setup.config
    parameters = list(setup.policy.adapter_parameters().values())
    sum_gradients(parameters)
    grad_norm = torch.nn.utils.clip_grad_norm_(parameters, config.optimizer.max_grad_norm)
    if not torch.isfinite(grad_norm):
        raise FloatingPointError(
            f"The gradient of step {step + 1} is not finite (norm {grad_norm.item()}); no step was "
            "taken. Resume from the last checkpoint with a lower learning rate "
            "(--optimizer.learning-rate 1e-6 --allow-changes), or start a new run in float32 "
            "(--model.dtype float32)."
        )
    learning_rate = config.optimizer.learning_rate * config.schedule(step, config.steps)
    for group in setup.optimizer.param_groups:
        group["lr"] = learning_rate
    setup.optimizer.step()
    setup.optimizer.zero_grad(set_to_none=True)
    return learning_rate, grad_norm.item()


def _record(
    setup: TrainingSetup,
    writer: RunWriter,
    step: StepResult,
    number: int,
    collapse: CollapseWatch,
) -> dict[str, Any]:
    """Writes the rollouts and the metrics of a step; returns the metrics."""
    texts = decode(step, setup.policy.tokenizer)
    writer.rollouts(number, rollout_rows(step, number, texts))
    row = step_metrics(step, number, texts, setup.config.markers, setup.accelerator.device)
    signs = collapse.signs(row)
    if signs:
        row["collapse"] = signs
    writer.metrics(row)
    return row


def _own_batch(setup: TrainingSetup) -> int:
    """Returns how many questions of each batch are this process's."""
    accelerator = setup.accelerator
    return len(range(accelerator.process_index, setup.config.batch_size, accelerator.num_processes))


@contextmanager
def _saved(setup: TrainingSetup, writer: RunWriter, done: int, first_step: int) -> Iterator[None]:
    """Saves the run as it is after `done` steps where the next lacks good completions.  Raises
    Stopped.
    """
    try:
        yield
    except (ModelError, OffPolicyError, ServersLost) as error:
        if setup.accelerator.is_main_process and done > first_step:
            save_checkpoint(writer.folder, setup.state(done), setup.policy, setup.optimizer)
        setup.accelerator.wait_for_everyone()
        where = f"after step {done}, which is saved" if done else "before the first step"
        raise Stopped(f"Stopped {where}. {error}", error.exit_code) from error
