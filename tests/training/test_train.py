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
from purified_opsd.training.rollouts import StepResult
from purified_opsd.training.setup import setup_training
from purified_opsd.training.train import training_step


def changed(setup, **settings):
    """The same setup with other settings."""
    return replace(setup, config=replace(setup.config, **settings))


def gradients(setup) -> tuple[StepResult, dict[str, torch.Tensor]]:
    """A step's result and its gradient, caught where the optimizer gets it, before clipping."""
    caught = {}

    def catch(*_):
        parameters = setup.policy.adapter_parameters()
        caught.update({name: parameter.grad.clone() for name, parameter in parameters.items()})

    handle = setup.optimizer.register_step_pre_hook(catch)
    setup = changed(setup, optimizer=replace(setup.config.optimizer, max_grad_norm=1e12))
    before = {name: p.detach().clone() for name, p in setup.policy.adapter_parameters().items()}
    step = training_step(setup, 0)
    handle.remove()
    for name, parameter in setup.policy.adapter_parameters().items():
        parameter.data.copy_(before[name])
    setup.optimizer.state.clear()
    return step, caught


def log_probs(model, prompt, completion, temperature=1.0):
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1)


def naive_loss(setup, step, temperature=1.0):
    """Eq. 18, Steps 1 to 6 of Section 3.2, from whole models and whole vocabularies."""
    model, losses, lengths = setup.policy.model, [], []
    batch = setup.examples.batch(0, setup.config.batch_size, setup.config.seed)
    for t in step.rollouts:
        ids, prompts = t.completion.ids, setup.prompts.contexts(batch[t.index])
        with torch.no_grad(), model.disable_adapter():
            teacher = log_probs(model, prompts.teacher, ids, temperature)
            reference = log_probs(model, prompts.reference, ids, temperature)
            base = log_probs(model, prompts.base, ids, temperature)
        student, target = log_probs(model, prompts.base, ids, temperature), setup.config.target
        ones_N = student.new_ones(len(ids))
        if isinstance(target, PMITarget):
            settings = {"beta": target.beta, "clip": target.clip}
            loss = purified_loss(student, teacher, reference, base, ones_N, **settings)
        else:
            loss = standard_loss(student, teacher, ones_N)
        losses.append(loss)
        lengths.append(len(ids))
    if isinstance(setup.config.averaging, TokenMean):
        return sum(losses) / sum(lengths)
    means = [loss / length for loss, length in zip(losses, lengths, strict=True)]
    return sum(means) / len(means)


CASES = {
    "pmi": {},
    "standard": {"target": TeacherTarget()},
    "token mean, tempered": {"averaging": TokenMean(), "loss_temperature": 1.3},
}


@pytest.mark.parametrize("case", list(CASES))
def test_loss_and_gradient_are_those_of_the_formulas(adapted_setup, case):
    setup = replace(adapted_setup, config=replace(adapted_setup.config, **CASES[case]))
    step, found = gradients(setup)
    loss = naive_loss(setup, step, setup.config.loss_temperature)
    loss.backward()
    total = sum(t.weight * sum(t.divergence) for t in step.rollouts)
    assert total == pytest.approx(loss.item(), rel=1e-9)
    assert loss.item() > 1e-3
    for name, parameter in setup.policy.adapter_parameters().items():
        torch.testing.assert_close(
            found[name], parameter.grad, rtol=1e-3, atol=1e-7
        )  # the model's norms work in float32
    norm = torch.cat([p.grad.flatten() for p in setup.policy.adapter_parameters().values()]).norm()
    assert step.grad_norm == pytest.approx(norm.item())


def test_no_micro_batch_size_changes_the_gradient(adapted_setup):
    results = []
    for tokens in (1, 700, 100_000):
        results.append(gradients(changed(adapted_setup, micro_batch_tokens=tokens)))
    for step, found in results[1:]:
        assert [t.completion.ids for t in step.rollouts] == [
            t.completion.ids for t in results[0][0].rollouts
        ]
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, results[0][1][name], rtol=1e-8, atol=1e-13)


def test_rollouts_are_on_policy_and_seeded_by_their_place(adapted_setup):
    step, _ = gradients(adapted_setup)
    assert (
        max(gap for t in step.rollouts for gap in t.log_prob_gaps) < 1e-6
    )  # sampler in float32, trainer in float64
    assert [t.index for t in step.rollouts] == [0, 1, 2]
    assert [t.seed for t in step.rollouts] == [
        seed_for(0, "rollout", 0, place) for place in range(3)
    ]
    assert [t.id for t in step.rollouts] == [e.id for e in adapted_setup.examples.batch(0, 3, 0)]


def test_a_step_moves_the_adapter_against_the_gradient_and_leaves_the_base(adapted_setup):
    policy = adapted_setup.policy
    fingerprint = policy.fingerprint()
    before = {name: p.detach().clone() for name, p in policy.adapter_parameters().items()}
    _, gradient = gradients(adapted_setup)
    training_step(adapted_setup, 0)
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


def test_gradient_checkpointing_changes_memory_only(adapted_setup):
    passes = []
    first_layer = adapted_setup.policy.base.get_decoder().layers[0]
    first_layer.mlp.register_forward_pre_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    with_it, twice = gradients(adapted_setup)[1], sum(passes)
    passes.clear()
    adapted_setup.policy.base.gradient_checkpointing_disable()
    without, once = gradients(adapted_setup)[1], sum(passes)
    assert once == 1  # the student's pass; rollout and frozen passes track no gradients
    assert twice == 1 + 1  # and once more on the way back, or it does nothing
    for name, gradient in with_it.items():
        torch.testing.assert_close(gradient, without[name], rtol=1e-10, atol=1e-14)


def test_a_gradient_that_is_not_finite_stops_before_the_step(adapted_setup):
    parameters = adapted_setup.policy.adapter_parameters()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    next(iter(parameters.values())).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(
        FloatingPointError,
        match="gradient of step 1 is not finite .*no step was taken. Resume from the last",
    ):
        training_step(adapted_setup, 0)
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())


def test_bfloat16_base_with_float32_adapter_stays_on_policy(tiny_run):
    """Sampler (with its cache) and trainer round at different places, and by no more than bfloat16
    allows.
    """
    setup = setup_training(replace(tiny_run, model=replace(tiny_run.model, dtype="bfloat16")))
    setup.policy.model.train()
    step, gradient = gradients(setup)
    gaps = [gap for t in step.rollouts for gap in t.log_prob_gaps]
    assert 0 < sum(gaps) / len(gaps) < 0.1
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in gradient.values())
    assert step.grad_norm > 0
