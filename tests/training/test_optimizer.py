import pytest

from purified_opsd.training.optimizer import Constant, Cosine, Linear


def factors(schedule, steps=8):
    return [schedule(step, steps) for step in range(steps)]


def test_constant():
    assert factors(Constant()) == [1.0] * 8


def test_linear_falls_along_a_line():
    assert factors(Linear(), 4) == [1.0, 0.75, 0.5, 0.25]


def test_cosine_is_half_way_down_at_half_time():
    assert Cosine()(4, 8) == pytest.approx(0.5)
    assert factors(Cosine())[0] == 1.0
    assert Cosine()(8, 8) == pytest.approx(0.0)


@pytest.mark.parametrize("schedule", [Constant(4), Linear(4), Cosine(4)])
def test_warm_up_climbs_to_one_and_then_the_schedule_begins(schedule):
    assert factors(schedule)[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert schedule(4, 8) == 1.0
