"""A model's head, as the chunked loss uses it: a chunk of hidden states to logits, and a gradient
in the logits back to the hidden states.

C rows of a chunk, D hidden size, V rows of the head.  Logits are float32 or wider, whatever the
head's weights are kept in.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .divergences import Divergence
from .kernels import LinearPMILoss, TokenLoss
from .loss_inputs import check_function_head, check_linear_head
from .targets import PMITarget, Target

Head = nn.Linear | Callable[[Tensor], Tensor]
"""From hidden states [n, D] to logits [n, V]: a plain linear layer, or any function that can be
differentiated.  Frozen: its own gradient is not taken.
"""

WEIGHT_TILE_ELEMENTS = 2**21
"""Elements of the head's weights that are upcast at a time: 8 MiB in float32."""


class StudentLogits(NamedTuple):
    """The student's logits of a chunk, which may be written over, and their backward pass."""

    logits_CV: Float[Tensor, "C V"]
    backward: Callable[[Float[Tensor, "C V"]], Float[Tensor, "C D"]]
    """From a gradient in the logits to one in the hidden states."""


@runtime_checkable
class HeadProjection(Protocol):
    """Projects a chunk's hidden states to logits, and says what is to be made of them."""

    dtype: torch.dtype
    V: int

    def context_logits(self, target: Target, hidden_CD: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Returns the logits that `token_loss` takes for the target."""
        ...

    def student_logits(self, hidden_CD: Tensor) -> StudentLogits: ...

    def token_loss(self, target: Target, divergence: Divergence, temperature: float) -> TokenLoss:
        """Returns what is made of the logits that `context_logits` and `student_logits` give."""
        ...


def project_with(head: Head, student_ND: Tensor) -> HeadProjection:
    """Returns the projection by a head, in float32, or wider where the hidden states are.

    Raises ValueError for a head that is being trained, or on another device.
    """
    dtype = torch.promote_types(student_ND.dtype, torch.float32)
    if isinstance(head, nn.Linear):
        check_linear_head(head, student_ND)
        return LinearHead(head, dtype)
    return FunctionHead(head, student_ND, dtype)


class FunctionHead:
    """Any head: one projection a distribution, and autograd for the way back."""

    def __init__(self, head: Callable[[Tensor], Tensor], student_ND: Tensor, dtype: torch.dtype):
        self.head, self.dtype = head, dtype
        logits_1V = self._logits(student_ND[:1].detach())
        check_function_head(logits_1V)
        self.V = logits_1V.shape[-1]

    def context_logits(self, target: Target, hidden_CD: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(self._logits(hidden_CD[name]) for name in target.contexts)

    def student_logits(self, hidden_CD: Tensor) -> StudentLogits:
        leaf_CD = hidden_CD.detach().to(self.dtype).requires_grad_()
        with torch.enable_grad():
            logits_CV = self._logits(leaf_CD)

        def backward(gradient_CV: Tensor) -> Tensor:
            return torch.autograd.grad(logits_CV, leaf_CD, gradient_CV)[0]

        # A copy: what the loss writes over must not be what autograd remembers.
        return StudentLogits(logits_CV.detach().clone(), backward)

    def token_loss(self, target: Target, divergence: Divergence, temperature: float) -> TokenLoss:
        return TokenLoss(target, divergence, temperature)

    def _logits(self, hidden_CD: Tensor) -> Tensor:
        return self.head(hidden_CD.to(self.dtype)).to(self.dtype)


class LinearHead:
    """A plain linear head: its way back is one product, the PMI target takes two projections where
    the formulas take three, and all chunks share one set of [chunk, V] buffers.
    """

    def __init__(self, head: nn.Linear, dtype: torch.dtype):
        self.matmul = choose_matmul(head.weight.detach(), dtype)
        self.bias_V = None if head.bias is None else head.bias.detach().to(dtype)
        self.dtype, self.V = dtype, len(head.weight)
        self.buffers: dict[str, Tensor] = {}

    def context_logits(self, target: Target, hidden_CD: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        if not isinstance(target, PMITarget):
            return tuple(self._logits(name, hidden_CD[name]) for name in target.contexts)
        # Subtracted before the product: one product for two, and nothing is rounded in between.
        # The bias, the same in both, has cancelled.
        teacher_CD = hidden_CD["teacher"].to(self.dtype)
        reference_CD = hidden_CD["reference"].to(self.dtype)
        signal_CV = self._product("signal", teacher_CD - reference_CD)
        return signal_CV, self._logits("base", hidden_CD["base"])

    def student_logits(self, hidden_CD: Tensor) -> StudentLogits:
        return StudentLogits(self._logits("student", hidden_CD), self.matmul.backward)

    def token_loss(self, target: Target, divergence: Divergence, temperature: float) -> TokenLoss:
        if isinstance(target, PMITarget):
            return LinearPMILoss(target, divergence, temperature)
        return TokenLoss(target, divergence, temperature)

    def _logits(self, buffer: str, hidden_CD: Tensor) -> Tensor:
        logits_CV = self._product(buffer, hidden_CD.to(self.dtype))
        return logits_CV if self.bias_V is None else logits_CV.add_(self.bias_V)

    def _product(self, buffer: str, hidden_CD: Tensor) -> Tensor:
        C = len(hidden_CD)
        if buffer not in self.buffers:
            self.buffers[buffer] = hidden_CD.new_empty(C, self.V)  # the first chunk is the largest
        out_CV = self.buffers[buffer][:C]
        self.matmul.logits(hidden_CD, out_CV)
        return out_CV


@runtime_checkable
class HeadMatmul(Protocol):
    """The two matrix products of a linear head."""

    def logits(self, hidden_CD: Float[Tensor, "C D"], out_CV: Float[Tensor, "C V"]) -> None:
        """out = hidden · Wᵀ."""
        ...

    def backward(self, gradient_CV: Float[Tensor, "C V"]) -> Float[Tensor, "C D"]:
        """gradient · W."""
        ...


def choose_matmul(weight_VD: Float[Tensor, "V D"], dtype: torch.dtype) -> HeadMatmul:
    """Returns the products whose results are in `dtype`, with no copy of the weights."""
    if weight_VD.dtype == dtype:
        return SameDtype(weight_VD)
    if weight_VD.is_cuda and dtype == torch.float32:
        return Fp32Accumulate(weight_VD)
    return UpcastTiles(weight_VD, dtype)


class SameDtype:
    """For weights that are in the arithmetic's dtype already."""

    def __init__(self, weight_VD: Tensor):
        self.weight_VD = weight_VD

    def logits(self, hidden_CD: Tensor, out_CV: Tensor) -> None:
        torch.mm(hidden_CD, self.weight_VD.T, out=out_CV)

    def backward(self, gradient_CV: Tensor) -> Tensor:
        return gradient_CV @ self.weight_VD


class Fp32Accumulate:
    """Half-precision factors, float32 sums and results: what a GPU's matrix units do.  The factors
    are rounded, each entry relative to itself; the logits are not.
    """

    def __init__(self, weight_VD: Tensor):
        self.weight_VD = weight_VD

    def logits(self, hidden_CD: Tensor, out_CV: Tensor) -> None:
        rounded_CD = hidden_CD.to(self.weight_VD.dtype)
        torch.mm(rounded_CD, self.weight_VD.T, out_dtype=torch.float32, out=out_CV)

    def backward(self, gradient_CV: Tensor) -> Tensor:
        rounded_CV = gradient_CV.to(self.weight_VD.dtype)
        return torch.mm(rounded_CV, self.weight_VD, out_dtype=torch.float32)


class UpcastTiles:
    """Weights upcast a tile of rows at a time, where the device has no such units."""

    def __init__(self, weight_VD: Tensor, dtype: torch.dtype):
        self.weight_VD, self.dtype = weight_VD, dtype

    def logits(self, hidden_CD: Tensor, out_CV: Tensor) -> None:
        for rows, tile_TD in self._tiles():
            torch.mm(hidden_CD, tile_TD.T, out=out_CV[:, rows])

    def backward(self, gradient_CV: Tensor) -> Tensor:
        sum_CD = gradient_CV.new_zeros(len(gradient_CV), self.weight_VD.shape[1])
        for rows, tile_TD in self._tiles():
            sum_CD.addmm_(gradient_CV[:, rows], tile_TD)
        return sum_CD

    def _tiles(self) -> Iterator[tuple[slice, Tensor]]:
        V, D = self.weight_VD.shape
        tile_rows = max(1, WEIGHT_TILE_ELEMENTS // D)
        for first in range(0, V, tile_rows):
            rows = slice(first, first + tile_rows)
            yield rows, self.weight_VD[rows].to(self.dtype)
