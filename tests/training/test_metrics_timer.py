import time

import pytest
import torch

from purified_opsd.training.metrics import StepTimer


def test_seconds_add_up_by_part_also_when_a_part_fails():
    clock = StepTimer(torch.device("cpu"))
    for _ in range(2):
        with clock("rollout"):
            time.sleep(0.01)
    with pytest.raises(RuntimeError), clock("student"):
        raise RuntimeError
    assert clock.seconds["rollout"] >= 0.02
    assert 0 <= clock.seconds["student"] < clock.seconds["rollout"]
