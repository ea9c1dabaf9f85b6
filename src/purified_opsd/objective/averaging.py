"""How the tokens of a batch are averaged into one loss, as a weight a token.

B sequences; T_i completion tokens of sequence i; N tokens of all sequences, laid end to end.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Averaging(Protocol):
    """Gives the weight that each token of sequence i has in the loss of the whole batch.

    The weights of all tokens of the batch sum to 1.
    """

    def __call__(self, lengths_B: Int[Tensor, " B"]) -> Float[Tensor, " B"]: ...


@dataclass(frozen=True)
class SequenceMean:
    """(1/B) Σ_i (1/T_i) Σ_t: every completion counts the same, however long.  Eqs. 3, 12 and 18.

    Takes the completions' lengths [B]; gives the weight [B] of each one's tokens.
    """

    kind: ClassVar[str] = "sequence-mean"

    def __call__(self, lengths_B: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        return 1.0 / (len(lengths_B) * lengths_B.double())


@dataclass(frozen=True)
class TokenMean:
    """(1/Σ_i T_i) Σ_i Σ_t: every token counts the same, so long completions count for more.

    Takes the completions' lengths [B]; gives the weight [B] of each one's tokens.  Not the paper's;
    DAPO, arXiv:2503.14476, averages so.
    """

    kind: ClassVar[str] = "token-mean"

    def __call__(self, lengths_B: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        return (1.0 / lengths_B.sum().double()).expand(len(lengths_B))


def token_weights(averaging: Averaging, lengths_B: Int[Tensor, " B"]) -> Float[Tensor, " N"]:
    """Returns the weight [N] of every token of the batch, in the order of the sequences laid end to
    end: the `weight_N` that the losses take.  The 1/T of Eq. 18, averaged over the batch.

    `lengths_B` are the completion lengths of the whole batch, over all micro-batches and processes:
    weights that are fixed before any split are changed by none.
    """
    weight_B = averaging(lengths_B)
    return weight_B.repeat_interleave(lengths_B)
