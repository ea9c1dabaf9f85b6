"""Products of hidden states with the head's weights, and of gradients with them on the way back: float32 or wider, whatever the
weights are kept in.

C rows of a chunk, D hidden size, V rows of the head.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

TILE_ELEMENTS = 2**21
"""Elements of the head widened at a time: 8 MiB in float32."""


@runtime_checkable
class Products(Protocol):
    """The two matrix products of a linear head."""

    def logits(self, hidden_CD: Float[Tensor, "C D"], out_CV: Float[Tensor, "C V"]) -> None:
        """out = hidden · Wᵀ."""
        ...

    def pullback(self, gradient_CV: Float[Tensor, "C V"]) -> Float[Tensor, "C D"]:
        """gradient · W."""
        ...


def products_with(weight_VD: Float[Tensor, "V D"], dtype: torch.dtype) -> Products:
    """Results in `dtype`, with no copy of the weights."""
    if weight_VD.dtype == dtype:
        return Plain(weight_VD)
    if weight_VD.is_cuda and dtype == torch.float32:
        return WideSums(weight_VD)
    return Widened(weight_VD, dtype)


class Plain:
    """Weights that are in the arithmetic's dtype already."""

    def __init__(self, weight_VD: Tensor):
        self.weight_VD = weight_VD

    def logits(self, hidden_CD: Tensor, out_CV: Tensor) -> None:
        torch.mm(hidden_CD, self.weight_VD.T, out=out_CV)

    def pullback(self, gradient_CV: Tensor) -> Tensor:
        return gradient_CV @ self.weight_VD


class WideSums:
    """Half-precision factors, float32 sums and results: what a GPU's matrix units do.  The factors are rounded, each entry relative
    to itself; the logits are not."""

    def __init__(self, weight_VD: Tensor):
        self.weight_VD = weight_VD

    def logits(self, hidden_CD: Tensor, out_CV: Tensor) -> None:
        torch.mm(hidden_CD.to(self.weight_VD.dtype), self.weight_VD.T, out_dtype=torch.float32, out=out_CV)

    def pullback(self, gradient_CV: Tensor) -> Tensor:
        return torch.mm(gradient_CV.to(self.weight_VD.dtype), self.weight_VD, out_dtype=torch.float32)


class Widened:
    """Weights widened a tile at a time, where the device has no such units."""

    def __init__(self, weight_VD: Tensor, dtype: torch.dtype):
        self.weight_VD, self.dtype = weight_VD, dtype

    def logits(self, hidden_CD: Tensor, out_CV: Tensor) -> None:
        for rows, tile_TD in self._tiles():
            torch.mm(hidden_CD, tile_TD.T, out=out_CV[:, rows])

    def pullback(self, gradient_CV: Tensor) -> Tensor:
        sum_CD = gradient_CV.new_zeros(len(gradient_CV), self.weight_VD.shape[1])
        for rows, tile_TD in self._tiles():
            sum_CD.addmm_(gradient_CV[:, rows], tile_TD)
        return sum_CD

    def _tiles(self) -> Iterator[tuple[slice, Tensor]]:
        V, D = self.weight_VD.shape
        step = max(1, TILE_ELEMENTS // D)
        for first in range(0, V, step):
            rows = slice(first, first + step)
            yield rows, self.weight_VD[rows].to(self.dtype)
