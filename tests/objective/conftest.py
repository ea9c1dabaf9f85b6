import pytest
import torch


def log_distributions(
    count: int, N: int = 7, V: int = 23, scale: float = 3.0
) -> list[torch.Tensor]:
    """Random log-distributions [N, V] in float64, peaked enough to differ."""
    draw = torch.Generator().manual_seed(1)
    return [
        (torch.randn(N, V, generator=draw, dtype=torch.float64) * scale).log_softmax(-1)
        for _ in range(count)
    ]


@pytest.fixture
def logs():
    return log_distributions
