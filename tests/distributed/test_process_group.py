"""What one process alone can tell of the group; test_processes.py has two."""

import pytest
import torch

from purified_opsd.distributed.process_group import init_distributed, sum_gradients
from purified_opsd.errors import RunError


def test_a_process_that_is_alone_copies_no_gradient():
    parameters = [torch.nn.Parameter(torch.ones(size)) for size in (2, 3)]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    before = [parameter.grad for parameter in parameters]
    sum_gradients(parameters)
    assert all(after.grad is gradient for after, gradient in zip(parameters, before, strict=True))


@pytest.fixture
def launched(monkeypatch):
    """Sets the environment that a launcher gives to the one process it starts."""

    def launched(**environment: str) -> None:
        for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return launched


def test_fewer_processes_than_were_asked_for_are_found_out(launched):
    launched(ACCELERATE_MIXED_PRECISION="no", MASTER_ADDR="127.0.0.1")
    with pytest.raises(RunError, match="^several processes were asked for, and this one found 1"):
        init_distributed()
    launched(WORLD_SIZE="2")
    with pytest.raises(RunError, match="^2 processes were asked for, and this one found 1"):
        init_distributed()


@pytest.mark.parametrize(
    "environment",
    [{}, {"ACCELERATE_MIXED_PRECISION": "no"}, {"MASTER_ADDR": "127.0.0.1"}],
    ids=["no launcher", "accelerate launch of one", "a cluster's environment"],
)
def test_one_process_is_enough_where_one_was_asked_for(launched, environment):
    launched(**environment)
    assert init_distributed().num_processes == 1
