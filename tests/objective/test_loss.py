"""The ten lines against the paper's equations in plain Python floats, one token at a time, and the
loss from logits against the ten lines.
"""

import math

import pytest
import torch

from purified_opsd.objective.divergences import JSD, ForwardKL, ReverseKL
from purified_opsd.objective.loss import loss_from_logits, purified_loss, standard_loss
from purified_opsd.objective.targets import PMITarget, TeacherTarget

N, V = 7, 23
WEIGHT_N = torch.linspace(0.5, 2.0, N, dtype=torch.float64)


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def jsd(p: list[float], q: list[float]) -> float:
    mixture = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return kl(p, mixture) / 2 + kl(q, mixture) / 2


def target_by_hand(teacher, reference, base, beta: float, clip: float) -> list[float]:
    """P_target of one token, from probabilities."""
    signal = [math.log(t / r) for t, r in zip(teacher, reference, strict=True)]  # Eq. 13
    mean = sum(signal) / len(signal)
    clipped = [clip * math.tanh((delta - mean) / clip) for delta in signal]  # Eqs. 14, 15
    tilted = [p * math.exp(d / beta) for p, d in zip(base, clipped, strict=True)]  # Eq. 16
    return [value / sum(tilted) for value in tilted]


@pytest.mark.parametrize(("beta", "clip"), [(1.0, 10.0), (0.6, 2.0), (2.0, 5.0)])
def test_purified_loss_is_equations_13_to_18(beta, clip, logs):
    student, teacher, reference, base = logs(4, N, V)
    expected = 0.0
    for n in range(N):
        four = [log[n].exp().tolist() for log in (student, teacher, reference, base)]
        expected += WEIGHT_N[n].item() * jsd(four[0], target_by_hand(*four[1:], beta, clip))
    loss = purified_loss(student, teacher, reference, base, WEIGHT_N, beta=beta, clip=clip)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_standard_loss_is_equation_3(logs):
    student, teacher = logs(2, N, V)
    pairs = zip(student.exp().tolist(), teacher.exp().tolist(), strict=True)
    expected = sum(w * jsd(*pair) for w, pair in zip(WEIGHT_N.tolist(), pairs, strict=True))
    loss = standard_loss(student, teacher, WEIGHT_N)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def from_logits(logits, target, **settings):
    student, *others = (log + shift for shift, log in enumerate(logits))
    contexts = dict(zip(("teacher", "reference", "base"), others, strict=True))
    student = student.clone().requires_grad_()
    loss = loss_from_logits(student, contexts, WEIGHT_N, target=target, **settings)
    loss.backward()
    return loss.detach(), student.grad


@pytest.mark.parametrize("divergence", [JSD(0.3), ForwardKL(), ReverseKL()], ids=str)
@pytest.mark.parametrize("center_rows", [None, 20])
def test_loss_from_logits_is_the_ten_lines(divergence, center_rows, logs):
    student, *others = logs(4, N, V)
    target = PMITarget(beta=0.7, clip=3.0, center_rows=center_rows)
    loss, gradient = from_logits([student, *others], target, divergence=divergence)

    logits = student.clone().requires_grad_()
    settings = {"beta": 0.7, "clip": 3.0, "divergence": divergence, "center_rows": center_rows}
    expected = purified_loss(logits.log_softmax(-1), *others, WEIGHT_N, **settings)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, logits.grad)


def test_loss_from_logits_of_the_standard_arm_divides_every_logit_by_the_temperature(logs):
    logits = logs(4, N, V)
    loss, _ = from_logits(logits, TeacherTarget(), divergence=JSD(), temperature=1.7)
    student, teacher = ((log / 1.7).log_softmax(-1) for log in logits[:2])
    torch.testing.assert_close(loss, standard_loss(student, teacher, WEIGHT_N))


def test_half_precision_logits_are_computed_in_float32(logs):
    half = [log.bfloat16() for log in logs(4, N, V)]
    student, teacher, reference, base = (log.double().log_softmax(-1) for log in half)
    contexts = dict(zip(("teacher", "reference", "base"), half[1:], strict=True))
    loss = loss_from_logits(half[0], contexts, WEIGHT_N, target=PMITarget(), divergence=JSD())
    assert loss.dtype == torch.float32
    exact = purified_loss(student, teacher, reference, base, WEIGHT_N)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)


def test_the_contexts_get_no_gradient(logs):
    student, *others = logs(4, N, V)
    contexts = dict(zip(("teacher", "reference", "base"), others, strict=True))
    for log in (student, *others):
        log.requires_grad_()
    loss = loss_from_logits(student, contexts, WEIGHT_N, target=PMITarget(), divergence=JSD())
    loss.backward()
    assert student.grad.abs().max() > 0
    assert all(log.grad is None for log in others)


def test_logits_that_are_not_finite_are_refused(logs):
    student, teacher = logs(2, N, V)
    teacher[2, 3] = float("nan")
    with pytest.raises(FloatingPointError, match=r"1 of 7 completion tokens .*the first is row 2"):
        loss_from_logits(
            student, {"teacher": teacher}, WEIGHT_N, target=TeacherTarget(), divergence=JSD()
        )
