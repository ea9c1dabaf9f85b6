"""One step of the algorithm against Section 3.2 as it is written: four full-logit forward passes,
one sequence at a time.
"""

from dataclasses import replace

import pytest
import torch

from purified_opsd.data.seeds import seed_for
from purified_opsd.objective.averaging import TokenMean
from purified_opsd.objective.loss import purified_loss, standard_loss
from purified_opsd.objective.targets import PMITarget, TeacherTarget
from purified_opsd.training.setup import setup_training
from purified_opsd.training.train import training_step


def gradients(job) -> dict[str, torch.Tensor]:
    """The gradient a step takes, caught where it is handed to the optimizer, before clipping."""
    caught = {}

    def catch(*_):
        caught.update({name: p.grad.clone() for name, p in job.policy.adapter_parameters().items()})

    handle = job.optimizer.register_step_pre_hook(catch)
    job = replace(
        job, run=replace(job.run, optimizer=replace(job.run.optimizer, max_grad_norm=1e12))
    )
    before = {name: p.detach().clone() for name, p in job.policy.adapter_parameters().items()}
    step = training_step(job, 0)
    handle.remove()
    for name, parameter in job.policy.adapter_parameters().items():
        parameter.data.copy_(before[name])
    job.optimizer.state.clear()
    return step, caught


def log_probs(model, prompt, completion, temperature=1.0):
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1)


def naive_loss(job, step, temperature=1.0):
    """Eq. 18, Steps 1 to 6 of Section 3.2, from whole models and whole vocabularies."""
    model, losses, lengths = job.policy.model, [], []
    batch = job.examples.batch(0, job.run.batch_size, job.run.seed)
    for t in step.trajectories:
        ids, prompts = t.completion.ids, job.prompts.contexts(batch[t.place])
        with torch.no_grad(), model.disable_adapter():
            teacher = log_probs(model, prompts.teacher, ids, temperature)
            reference = log_probs(model, prompts.reference, ids, temperature)
            base = log_probs(model, prompts.question, ids, temperature)
        student, target = log_probs(model, prompts.question, ids, temperature), job.run.target
        ones_N = student.new_ones(len(ids))
        if isinstance(target, PMITarget):
            settings = {"beta": target.beta, "clip": target.clip}
            loss = purified_loss(student, teacher, reference, base, ones_N, **settings)
        else:
            loss = standard_loss(student, teacher, ones_N)
        losses.append(loss)
        lengths.append(len(ids))
    if isinstance(job.run.averaging, TokenMean):
        return sum(losses) / sum(lengths)
    means = [loss / length for loss, length in zip(losses, lengths, strict=True)]
    return sum(means) / len(means)


CASES = {
    "pmi": {},
    "standard": {"target": TeacherTarget()},
    "token mean, tempered": {"averaging": TokenMean(), "loss_temperature": 1.3},
}


@pytest.mark.parametrize("case", list(CASES))
def test_loss_and_gradient_are_those_of_the_formulas(adapted_job, case):
    job = replace(adapted_job, run=replace(adapted_job.run, **CASES[case]))
    step, found = gradients(job)
    loss = naive_loss(job, step, job.run.loss_temperature)
    loss.backward()
    total = sum(t.weight * sum(t.divergence) for t in step.trajectories)
    assert total == pytest.approx(loss.item(), rel=1e-9)
    assert loss.item() > 1e-3
    for name, parameter in job.policy.adapter_parameters().items():
        torch.testing.assert_close(
            found[name], parameter.grad, rtol=1e-3, atol=1e-7
        )  # the model's norms work in float32
    norm = torch.cat([p.grad.flatten() for p in job.policy.adapter_parameters().values()]).norm()
    assert step.grad_norm == pytest.approx(norm.item())


def test_no_micro_batch_size_changes_the_gradient(adapted_job):
    results = []
    for tokens in (1, 700, 100_000):
        results.append(
            gradients(replace(adapted_job, run=replace(adapted_job.run, micro_batch_tokens=tokens)))
        )
    for step, found in results[1:]:
        assert [t.completion.ids for t in step.trajectories] == [
            t.completion.ids for t in results[0][0].trajectories
        ]
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, results[0][1][name], rtol=1e-8, atol=1e-13)


def test_rollouts_are_on_policy_and_seeded_by_their_place(adapted_job):
    step, _ = gradients(adapted_job)
    assert (
        max(gap for t in step.trajectories for gap in t.gap) < 1e-6
    )  # sampler in float32, trainer in float64
    assert [t.place for t in step.trajectories] == [0, 1, 2]
    assert [t.seed for t in step.trajectories] == [
        seed_for(0, "rollout", 0, place) for place in range(3)
    ]
    assert [t.id for t in step.trajectories] == [e.id for e in adapted_job.examples.batch(0, 3, 0)]


def test_a_step_moves_the_adapter_against_the_gradient_and_leaves_the_base(adapted_job):
    policy = adapted_job.policy
    fingerprint = policy.fingerprint()
    before = {name: p.detach().clone() for name, p in policy.adapter_parameters().items()}
    _, gradient = gradients(adapted_job)
    training_step(adapted_job, 0)
    for (
        name,
        parameter,
    ) in (
        policy.adapter_parameters().items()
    ):  # Adam's first step is lr·g/(|g| + ε), g clipped to the norm
        norm = torch.cat([g.flatten() for g in gradient.values()]).norm()
        clipped = gradient[name] * min(1, 0.1 / norm)
        torch.testing.assert_close(
            parameter.detach() - before[name],
            -1e-3 * clipped / (clipped.abs() + 1e-8),
            rtol=1e-3,
            atol=1e-7,
        )
    assert policy.fingerprint() == fingerprint


def test_gradient_checkpointing_changes_memory_only(adapted_job):
    passes = []
    first_layer = adapted_job.policy.base.get_decoder().layers[0]
    first_layer.mlp.register_forward_pre_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    with_it, twice = gradients(adapted_job)[1], sum(passes)
    passes.clear()
    adapted_job.policy.base.gradient_checkpointing_disable()
    without, once = gradients(adapted_job)[1], sum(passes)
    assert once == 1  # the student's pass; rollout and frozen passes track no gradients
    assert twice == 1 + 1  # and once more on the way back, or it does nothing
    for name, gradient in with_it.items():
        torch.testing.assert_close(gradient, without[name], rtol=1e-10, atol=1e-14)


def test_a_gradient_that_is_not_finite_stops_before_the_step(adapted_job):
    parameters = adapted_job.policy.adapter_parameters()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    next(iter(parameters.values())).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(
        FloatingPointError,
        match="gradient of step 1 is not finite .*no step was taken. Resume from the last",
    ):
        training_step(adapted_job, 0)
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())


def test_bfloat16_base_with_float32_adapter_stays_on_policy(tiny_run):
    """Sampler (with its cache) and trainer round at different places, and by no more than bfloat16
    allows.
    """
    job = setup_training(replace(tiny_run, model=replace(tiny_run.model, dtype="bfloat16")))
    job.policy.model.train()
    step, gradient = gradients(job)
    gaps = [gap for t in step.trajectories for gap in t.gap]
    assert 0 < sum(gaps) / len(gaps) < 0.1
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in gradient.values())
    assert step.grad_norm > 0
