"""How the tokens of a batch are averaged into one loss.  B sequences, T_i completion tokens in
sequence i.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Averaging(Protocol):
    """The weight of each token of sequence i in the loss of the whole batch; the weights of all its
    tokens sum to 1.
    """

    def __call__(self, lengths_B: Int[Tensor, " B"]) -> Float[Tensor, " B"]: ...


@dataclass(frozen=True)
class SequenceMean:
    """(1/B) Σ_i (1/T_i) Σ_t: every completion counts the same, however long.  Eqs. 3, 12 and 18."""

    kind: ClassVar[str] = "sequence-mean"

    def __call__(self, lengths_B: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        return 1.0 / (len(lengths_B) * lengths_B.double())


@dataclass(frozen=True)
class TokenMean:
    """(1/Σ_i T_i) Σ_i Σ_t: every token counts the same, so long completions count for more."""

    kind: ClassVar[str] = "token-mean"

    def __call__(self, lengths_B: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        return (1.0 / lengths_B.sum().double()).expand(len(lengths_B))
