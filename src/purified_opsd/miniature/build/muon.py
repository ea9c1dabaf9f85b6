"""Muon (Jordan et al. 2024): momentum whose matrix is made orthogonal before the step.

In float32, since bfloat16, in which torch's own Muon iterates, is slow on most processors.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

# quintic coefficients: singular values go to about 1 in five rounds
_ITERATION = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


class Muon(Optimizer):
    """For weight matrices only; give embeddings and vectors to AdamW.

    `lr` is on AdamW's scale: an update's root mean square is about 0.2 (Liu et al. 2025,
    arXiv:2502.16982).
    """

    def __init__(
        self,
        matrices: Iterable[Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
    ):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for matrices in _by_shape(group["params"]):
                updates = self._updates(matrices, group["momentum"])
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(
                        update, alpha=-group["lr"]
                    )

    def _updates(self, matrices: list[Parameter], momentum: float) -> Tensor:
        gradients = torch.stack([matrix.grad for matrix in matrices if matrix.grad is not None])
        state = self.state[matrices[0]]
        average = state.setdefault("momentum", torch.zeros_like(gradients)).lerp_(
            gradients, 1 - momentum
        )
        nesterov = gradients.lerp(average, momentum)
        return orthogonalized(nesterov) * 0.2 * max(nesterov.shape[1:]) ** 0.5


def orthogonalized(batch: Tensor) -> Tensor:
    """Each matrix of [batch, rows, columns] with its singular values pulled to about 1.

    Newton–Schulz rounds do it.
    """
    a, b, c = _ITERATION
    wide = batch if batch.shape[1] <= batch.shape[2] else batch.mT
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        square = wide @ wide.mT
        wide = a * wide + (b * square + c * square @ square) @ wide
    return wide if batch.shape[1] <= batch.shape[2] else wide.mT


def _by_shape(matrices: list[Parameter]) -> Iterable[list[Parameter]]:
    shapes = dict.fromkeys(matrix.shape for matrix in matrices)
    return [[matrix for matrix in matrices if matrix.shape == shape] for shape in shapes]
