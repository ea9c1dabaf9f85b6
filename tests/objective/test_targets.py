"""The paper's identities of Section 3, in float64."""

import pytest
import torch

from purified_opsd.objective.divergences import kl
from purified_opsd.objective.targets import (
    PMITarget,
    TeacherTarget,
    center,
    pmi_signal,
    soft_clip,
    tilt,
)


def test_target_is_a_distribution(logs):
    log_target = PMITarget(beta=0.7, clip=3.0)(*logs(3))
    torch.testing.assert_close(log_target.exp().sum(-1), torch.ones(7, dtype=torch.float64))


def test_clip_to_infinity_gives_equation_5(logs):
    teacher, reference, base = logs(3)
    weights = base.exp() * (teacher.exp() / reference.exp()) ** (1 / 0.5)  # Eq. 5, in probabilities
    expected = weights / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(
        PMITarget(beta=0.5, clip=1e9)(teacher, reference, base).exp(), expected
    )


def test_beta_to_infinity_gives_the_base(logs):
    teacher, reference, base = logs(3)
    torch.testing.assert_close(PMITarget(beta=1e12)(teacher, reference, base), base)


def test_a_reference_that_says_it_all_leaves_the_base(logs):
    teacher, base = logs(2)
    torch.testing.assert_close(PMITarget()(teacher, teacher, base), base)


def test_a_probe_like_the_base_gives_the_teacher(logs):
    teacher, base = logs(2)
    torch.testing.assert_close(PMITarget(clip=1e9)(teacher, base, base), teacher)


def test_centering_changes_nothing_without_tanh(logs):
    teacher, reference, base = logs(3)
    delta = pmi_signal(teacher, reference)
    torch.testing.assert_close(tilt(base, center(delta), 0.8), tilt(base, delta, 0.8))


def test_centering_matters_with_tanh(logs):
    teacher, reference, base = logs(3)
    delta = pmi_signal(teacher, reference) + 5
    assert (
        tilt(base, soft_clip(delta, 2.0), 1.0) - tilt(base, soft_clip(center(delta), 2.0), 1.0)
    ).abs().max() > 0.1


def test_center_has_mean_zero_over_the_rows_asked_for(logs):
    (delta,) = logs(1)
    torch.testing.assert_close(center(delta).mean(-1), torch.zeros(7, dtype=torch.float64))
    torch.testing.assert_close(
        center(delta, rows=20)[:, :20].mean(-1), torch.zeros(7, dtype=torch.float64)
    )


def test_soft_clip_is_the_identity_near_zero_bounded_and_monotone():
    small, large = (
        torch.linspace(-0.01, 0.01, 9).double()[None],
        torch.linspace(-500, 500, 1001).double()[None],
    )
    torch.testing.assert_close(soft_clip(small, 10.0), small, rtol=1e-6, atol=0)
    assert soft_clip(large, 10.0).abs().max() <= 10
    assert (soft_clip(large, 10.0).diff() >= 0).all()


def test_tilt_maximises_equation_7(logs):
    base, reward = logs(2)
    beta = 0.6

    def objective(log_p):  # E_P[r] − β KL(P ‖ P_0)
        return (log_p.exp() * reward).sum(-1) - beta * kl(log_p, base)

    best = tilt(base, reward, beta)
    for scale in (1e-3, 1e-1, 1.0):
        rival = (best + scale * torch.randn_like(best)).log_softmax(-1)
        assert (objective(best) > objective(rival)).all()
    log_normaliser = (base + reward / beta).logsumexp(-1)
    torch.testing.assert_close(
        objective(best), beta * log_normaliser
    )  # the optimum's value in closed form


def test_what_counts_only_up_to_a_constant_a_row(logs):
    teacher, reference, base = logs(3)
    shift = torch.randn(7, 1, dtype=torch.float64) * 10
    target = PMITarget()
    torch.testing.assert_close(
        target.from_signal(pmi_signal(teacher, reference) + shift, base - shift),
        target(teacher, reference, base),
    )


def test_teacher_target_is_the_teacher(logs):
    (teacher,) = logs(1)
    assert TeacherTarget()(teacher) is teacher


@pytest.mark.parametrize(
    "settings",
    [{"beta": 0.0}, {"beta": -1.0}, {"clip": 0.0}, {"beta": float("nan")}, {"clip": float("inf")}],
)
def test_impossible_settings_say_what_to_do(settings):
    with pytest.raises(
        ValueError, match=r"finite beta > 0 and clip > 0, got .* give a larger beta"
    ):
        PMITarget(**settings)


def test_center_rows_of_zero_are_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        PMITarget(center_rows=0)
