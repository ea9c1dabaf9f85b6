"""On-policy self-distillation, Section 3.2 of the paper: sample, score under the frozen base,
distil.

B sequences of this process, N completion tokens of a micro-batch, D hidden size.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from purified_opsd.analysis.teacher_signal import measure
from purified_opsd.data.seeds import seed_for
from purified_opsd.distributed.process_group import raise_on_any_rank
from purified_opsd.errors import Interrupted, ModelError, OffPolicyError, ServersLost, Stopped
from purified_opsd.interrupts import StopRequest
from purified_opsd.objective.chunked_loss import LossTerms, chunked_terms
from purified_opsd.policy.model import frozen
from purified_opsd.policy.scoring import completion_hidden, contexts_hidden, micro_batches
from purified_opsd.storage.run_dir import RunWriter

from .checkpoint import save_checkpoint
from .metrics import StepTimer, decode, rollout_rows, step_metrics
from .mismatch import mismatch_of
from .periodic_eval import PeriodicEvaluator
from .rollouts import Rollout, ScoredRollout, StepResult, scored_rollouts
from .setup import TrainingSetup
from .trackers import Trackers


def train(
    job: TrainingSetup,
    evaluator: PeriodicEvaluator,
    writer: RunWriter,
    trackers: Trackers,
    first_step: int,
) -> int:
    """Every step from `first_step` (counted from 0) to the end, each recorded, checkpoints and
    evaluations on the way.

    Returns the signal that came during the last step, for those with more to do, or 0. Raises
    Interrupted after a SIGINT or SIGTERM, once the step under way is finished and saved, and
    Stopped where a step cannot be taken for want of good completions, once the step before is
    saved.
    """
    run, main = job.run, job.accelerator.is_main_process
    job.policy.model.train()
    progress = tqdm(initial=first_step, total=run.steps, unit="step", disable=not main)
    stopping = 0
    with StopRequest() as stop, progress, closing(trackers):
        evaluator.run_if_due(first_step, stop)
        for number in range(first_step + 1, run.steps + 1):
            with _saved(job, writer, number - 1, first_step):
                step = training_step(job, number - 1)
            if main:
                texts = decode(step, job.policy.tokenizer)
                row = step_metrics(step, number, texts, run.markers, job.accelerator.device)
                writer.rollouts(number, rollout_rows(step, number, texts))
                writer.metrics(row)
                trackers.log(row)
                _show(progress, row)
            stopping = max(gather_object([stop.signal]))
            if main and (run.saves(number) or stopping):
                save_checkpoint(writer.folder, job.state(number), job.policy, job.optimizer)
            job.accelerator.wait_for_everyone()
            if stopping and number < run.steps:
                raise Interrupted(stopping, number)
            evaluator.run_if_due(number, stop)
    return stopping


def training_step(job: TrainingSetup, step: int) -> StepResult:
    """One pass of the algorithm: completions, targets, loss, update."""
    run, accelerator, clock = job.run, job.accelerator, StepTimer(job.accelerator.device)
    torch.manual_seed(seed_for(run.seed, "dropout", step, accelerator.process_index))

    with (
        clock("rollout"),
        raise_on_any_rank(accelerator),
        job.layout.synced_forwards(),
        job.layout.gathered_head(),
    ):
        job.sampler.sync(step)
        rollouts = sample_rollouts(job, step)
    weights = token_weights(job, rollouts)
    trajectories: list[ScoredRollout] = []
    with raise_on_any_rank(accelerator), job.layout.synced_forwards():
        for places in micro_batches(
            [rollout.tokens for rollout in rollouts], run.micro_batch_tokens
        ):
            micro, weight_B = (
                [rollouts[i] for i in places],
                [weights[rollouts[i].place] for i in places],
            )
            with clock("frozen"), frozen(job.policy.model):
                contexts_ND = score_contexts(job, micro)
            with clock("student"):
                terms = distillation_loss(job, micro, weight_B, contexts_ND)
                terms.loss.backward()
            trajectories += scored_rollouts(micro, weight_B, terms)

    everyone = sorted(gather_object(trajectories), key=lambda trajectory: trajectory.place)
    run.alarm.check(mismatch_of(everyone), step + 1)
    decompositions = []
    if run.decomposed:
        with clock("decomposition"):
            decompositions = decompose(job, rollouts)
    with clock("optimizer"):
        learning_rate, grad_norm = update(job, step)
    return StepResult(
        everyone, grad_norm, learning_rate, clock.seconds, gather_object(decompositions)
    )


def sample_rollouts(job: TrainingSetup, step: int) -> list[Rollout]:
    """ŷ ~ π_θ(·|q) for this process's questions of the step's batch.  Step 1 of Section 3.2."""
    run = job.run
    batch = job.examples.batch(step, run.batch_size, run.seed)
    places = range(job.accelerator.process_index, len(batch), job.accelerator.num_processes)
    prompts = [job.prompts.contexts(batch[place]) for place in places]
    seeds = [seed_for(run.seed, "rollout", step, place) for place in places]
    completions = job.sampler.generate([p.base for p in prompts], seeds)
    return [
        Rollout(place, batch[place], p, seed, completion)
        for place, p, seed, completion in zip(places, prompts, seeds, completions, strict=True)
    ]


def token_weights(job: TrainingSetup, rollouts: Sequence[Rollout]) -> dict[int, float]:
    """Each place's weight a token, from the lengths of the whole global batch: fixed before any
    split, so no split changes it.
    """
    lengths = dict(
        gather_object([(rollout.place, len(rollout.completion.ids)) for rollout in rollouts])
    )
    weight_B = job.run.averaging(torch.tensor([lengths[place] for place in sorted(lengths)]))
    return dict(zip(sorted(lengths), weight_B.tolist(), strict=True))


def score_contexts(
    job: TrainingSetup, rollouts: Sequence[Rollout]
) -> dict[str, Float[Tensor, "N D"]]:
    """The same completions under each context the target asks for.  Step 1 of Section 3.2."""
    prompts = {
        "teacher": [rollout.prompts.teacher for rollout in rollouts],
        "reference": [rollout.prompts.reference for rollout in rollouts],
        "base": [rollout.prompts.base for rollout in rollouts],
    }
    asked_for = {name: prompts[name] for name in job.run.target.contexts}
    completions = [rollout.completion.ids for rollout in rollouts]
    return contexts_hidden(job.policy.model, asked_for, completions, job.run.micro_batch_tokens)


def distillation_loss(
    job: TrainingSetup,
    rollouts: Sequence[Rollout],
    weight_B: Sequence[float],
    contexts_ND: Mapping[str, Float[Tensor, "N D"]],
) -> LossTerms:
    """Σ_n w_n D(π_θ ‖ P_target), with gradients tracked through the student.  Steps 2 to 6 of
    Section 3.2; Eq. 18.
    """
    run, completions = job.run, [rollout.completion.ids for rollout in rollouts]
    student_ND = completion_hidden(
        job.policy.model, [rollout.prompts.base for rollout in rollouts], completions
    )
    length_B = torch.tensor([len(ids) for ids in completions])
    with job.layout.gathered_head():
        return chunked_terms(
            student_ND,
            contexts_ND,
            job.policy.head,
            weight_N=torch.tensor(weight_B).repeat_interleave(length_B).to(student_ND.device),
            token_N=torch.tensor(list(chain(*completions)), device=student_ND.device),
            target=run.target,
            divergence=run.divergence,
            temperature=run.loss_temperature,
            kernels=run.kernels,
            chunk_rows=run.chunk_rows,
        )


def decompose(job: TrainingSetup, rollouts: Sequence[Rollout]) -> list[dict[str, float]]:
    """What pulls the student on the first completions of the batch, as it is before the update.
    Section 2.4; Fig. 3.
    """
    run, chosen = job.run, [rollout for rollout in rollouts if rollout.place < job.run.decomposed]
    prompts, completions = (
        [rollout.prompts for rollout in chosen],
        [rollout.completion for rollout in chosen],
    )
    return [
        found.numbers
        for found in measure(
            job.policy, prompts, completions, run.purified_target, run.micro_batch_tokens
        )
    ]


def update(job: TrainingSetup, step: int) -> tuple[float, float]:
    """Sums the gradient over processes, clips it, steps.  Returns the learning rate and the norm
    before clipping.
    """
    run, parameters = job.run, list(job.policy.adapter_parameters().values())
    for parameter in parameters:
        parameter.grad = cast(Tensor, job.accelerator.reduce(parameter.grad, "sum"))
    grad_norm = torch.nn.utils.clip_grad_norm_(parameters, run.optimizer.max_grad_norm)
    if not torch.isfinite(grad_norm):
        raise FloatingPointError(
            f"The gradient of step {step + 1} is not finite (norm {grad_norm.item()}); no step was "
            "taken. Resume from the last checkpoint with a lower learning rate, or train in "
            "float32 with --model.dtype float32."
        )
    learning_rate = run.optimizer.learning_rate * run.schedule(step, run.steps)
    for group in job.optimizer.param_groups:
        group["lr"] = learning_rate
    job.optimizer.step()
    job.optimizer.zero_grad(set_to_none=True)
    return learning_rate, grad_norm.item()


@contextmanager
def _saved(job: TrainingSetup, writer: RunWriter, done: int, first_step: int) -> Iterator[None]:
    """Saves the run as it is after `done` steps where the next lacks good completions.  Raises
    Stopped.
    """
    try:
        yield
    except (ModelError, OffPolicyError, ServersLost) as error:
        if job.accelerator.is_main_process and done > first_step:
            save_checkpoint(writer.folder, job.state(done), job.policy, job.optimizer)
        job.accelerator.wait_for_everyone()
        where = f"after step {done}, which is saved" if done else "before the first step"
        raise Stopped(
            f"Stopped {where}. {error}", 75 if isinstance(error, ServersLost) else 4
        ) from error


def _show(progress: tqdm, row: Mapping[str, Any]) -> None:
    progress.set_postfix_str(
        f"loss {row['loss']:.4g} · {row['tokens_per_second']:.0f} tokens/s · length "
        f"{row['completion_length']:.0f}",
        refresh=False,
    )
    progress.update()
