"""A model's head, as the loss uses it: a chunk of hidden states to logits, and a gradient back.

C rows of a chunk, D hidden size, V rows of the head.

Products of hidden states with the head's weights, and of gradients with them on the way back:
float32 or wider, whatever the weights are kept in.

C rows of a chunk, D hidden size, V rows of the head.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .divergences import Divergence
from .kernels import Formula, PMIFormula
from .targets import PMITarget, Target

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
        return SameDtype(weight_VD)
    if weight_VD.is_cuda and dtype == torch.float32:
        return Fp32Accumulate(weight_VD)
    return UpcastTiles(weight_VD, dtype)


class SameDtype:
    """Weights that are in the arithmetic's dtype already."""

    def __init__(self, weight_VD: Tensor):
        self.weight_VD = weight_VD

    def logits(self, hidden_CD: Tensor, out_CV: Tensor) -> None:
        torch.mm(hidden_CD, self.weight_VD.T, out=out_CV)

    def pullback(self, gradient_CV: Tensor) -> Tensor:
        return gradient_CV @ self.weight_VD


class Fp32Accumulate:
    """Half-precision factors, float32 sums and results: what a GPU's matrix units do.  The factors
    are rounded, each entry relative to itself; the logits are not.
    """

    def __init__(self, weight_VD: Tensor):
        self.weight_VD = weight_VD

    def logits(self, hidden_CD: Tensor, out_CV: Tensor) -> None:
        torch.mm(
            hidden_CD.to(self.weight_VD.dtype),
            self.weight_VD.T,
            out_dtype=torch.float32,
            out=out_CV,
        )

    def pullback(self, gradient_CV: Tensor) -> Tensor:
        return torch.mm(
            gradient_CV.to(self.weight_VD.dtype), self.weight_VD, out_dtype=torch.float32
        )


class UpcastTiles:
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


pass

Head = nn.Linear | Callable[[Tensor], Tensor]
"""From hidden states [n, D] to logits [n, V]: a plain linear layer, or any function that can be
differentiated.
"""


def projection_by(head: Head, student_ND: Tensor) -> "Projection":
    """Arithmetic in float32, or wider where the hidden states are."""
    dtype = torch.promote_types(student_ND.dtype, torch.float32)
    return (
        LinearHead(head, dtype)
        if isinstance(head, nn.Linear)
        else FunctionHead(head, student_ND, dtype)
    )


@runtime_checkable
class Projection(Protocol):
    """A chunk's hidden states to logits, and a gradient in the student's logits back to its hidden
    states.
    """

    dtype: torch.dtype
    V: int

    def formula(self, target: Target, divergence: Divergence, temperature: float) -> Formula:
        """What is made of the logits that `contexts` gives."""
        ...

    def contexts(self, target: Target, hidden_CD: Mapping[str, Tensor]) -> tuple[Tensor, ...]: ...

    def student(self, hidden_CD: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The logits, to be written over, and the function from a gradient in them to one in the
        hidden states.
        """
        ...


class FunctionHead:
    """Any head: one projection a distribution."""

    def __init__(self, head: Callable[[Tensor], Tensor], student_ND: Tensor, dtype: torch.dtype):
        self.head, self.dtype = head, dtype
        self.V = self._logits(student_ND[:1].detach()).shape[-1]

    def formula(self, target: Target, divergence: Divergence, temperature: float) -> Formula:
        return Formula(target, divergence, temperature)

    def contexts(self, target: Target, hidden_CD: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(self._logits(hidden_CD[name]) for name in target.contexts)

    def student(self, hidden_CD: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        leaf_CD = hidden_CD.detach().to(self.dtype).requires_grad_()
        with torch.enable_grad():
            logits_CV = self._logits(leaf_CD)
        return logits_CV.detach().clone(), lambda gradient_CV: torch.autograd.grad(
            logits_CV, leaf_CD, gradient_CV
        )[0]

    def _logits(self, hidden_CD: Tensor) -> Tensor:
        return self.head(hidden_CD.to(self.dtype)).to(self.dtype)


class LinearHead:
    """A plain linear head: its pullback is a product, the PMI target takes two projections where
    the formulas take three, and all chunks share one set of [chunk, V] buffers.
    """

    def __init__(self, head: nn.Linear, dtype: torch.dtype):
        self.products = products_with(head.weight.detach(), dtype)
        self.bias_V = None if head.bias is None else head.bias.detach().to(dtype)
        self.dtype, self.V = dtype, len(head.weight)
        self.buffers: dict[str, Tensor] = {}

    def formula(self, target: Target, divergence: Divergence, temperature: float) -> Formula:
        if isinstance(target, PMITarget):
            return PMIFormula(target, divergence, temperature)
        return Formula(target, divergence, temperature)

    def contexts(self, target: Target, hidden_CD: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        if isinstance(target, PMITarget):
            difference_CD = hidden_CD["teacher"].to(self.dtype) - hidden_CD["reference"].to(
                self.dtype
            )
            return self._product("signal", difference_CD), self._logits("base", hidden_CD["base"])
        return tuple(self._logits(name, hidden_CD[name]) for name in target.contexts)

    def student(self, hidden_CD: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return self._logits("student", hidden_CD), self.products.pullback

    def _logits(self, buffer: str, hidden_CD: Tensor) -> Tensor:
        logits_CV = self._product(buffer, hidden_CD.to(self.dtype))
        return logits_CV if self.bias_V is None else logits_CV.add_(self.bias_V)

    def _product(self, buffer: str, hidden_CD: Tensor) -> Tensor:
        C = len(hidden_CD)
        if buffer not in self.buffers:
            self.buffers[buffer] = hidden_CD.new_empty(C, self.V)  # the first chunk is the largest
        self.products.logits(hidden_CD, self.buffers[buffer][:C])
        return self.buffers[buffer][:C]
