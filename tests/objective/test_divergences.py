"""Divergences against their definitions, and their closed-form gradients against autograd, in
float64.
"""

import math

import pytest
import torch

from purified_opsd.objective.divergences import JSD, ForwardKL, ReverseKL, kl

ALL = [JSD(), JSD(0.1), JSD(0.9), ForwardKL(), ReverseKL()]


def test_kl_of_two_coins():
    p, q = torch.tensor([[0.75, 0.25]]).double().log(), torch.tensor([[0.5, 0.5]]).double().log()
    assert kl(p, q).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_jsd_is_its_definition(logs):
    student, target = logs(2)
    w = 0.3
    m = (w * target.exp() + (1 - w) * student.exp()).log()
    torch.testing.assert_close(
        JSD(w)(student, target), w * kl(target, m) + (1 - w) * kl(student, m)
    )


def test_jsd_at_one_half_is_symmetric_and_bounded(logs):
    student, target = logs(2)
    torch.testing.assert_close(JSD()(student, target), JSD()(target, student))
    apart = torch.tensor([[0.0, -700.0]]).double(), torch.tensor([[-700.0, 0.0]]).double()
    assert JSD()(*apart).item() == pytest.approx(math.log(2))
    assert (JSD()(student, target) < math.log(2)).all()


def test_jsd_is_not_symmetric_elsewhere(logs):
    student, target = logs(2)
    assert (JSD(0.2)(student, target) - JSD(0.2)(target, student)).abs().max() > 1e-3
    torch.testing.assert_close(JSD(0.2)(student, target), JSD(0.8)(target, student))


@pytest.mark.parametrize("divergence", ALL, ids=str)
def test_zero_at_equality_and_positive_elsewhere(divergence, logs):
    student, target = logs(2)
    torch.testing.assert_close(divergence(student, student), torch.zeros(7, dtype=torch.float64))
    assert (divergence(student, target) > 0.01).all()


def test_jsd_near_its_ends_is_a_scaled_kl(logs):
    student, target = logs(2, scale=0.5)
    torch.testing.assert_close(
        JSD(1e-6)(student, target) / 1e-6, ForwardKL()(student, target), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        JSD(1 - 1e-6)(student, target) / 1e-6, ReverseKL()(student, target), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("divergence", ALL, ids=str)
def test_closed_form_gradient_is_autograds(divergence, logs):
    logits, target = logs(2)
    logits = (logits + 3).requires_grad_()
    value = divergence(logits.log_softmax(-1), target)
    (expected,) = torch.autograd.grad(value.sum(), logits)
    closed = divergence.value_and_gradient(logits.detach().log_softmax(-1), target)
    torch.testing.assert_close(closed.value, value.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(closed.gradient, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("divergence", ALL, ids=str)
def test_gradcheck(divergence, logs):
    logits, target = (x[:2, :5] for x in logs(2))
    target = target.log_softmax(-1)
    assert torch.autograd.gradcheck(
        lambda z: divergence(z.log_softmax(-1), target), logits.clone().requires_grad_()
    )


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_impossible_weights_name_the_alternative(weight):
    with pytest.raises(
        ValueError, match=r"strictly between 0 and 1, got .*ForwardKL\(\).*ReverseKL\(\)"
    ):
        JSD(weight)
