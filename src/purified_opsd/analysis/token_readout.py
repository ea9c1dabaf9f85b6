"""What student, base, teacher, reference probe and purified target say at each token.

N completion tokens, C of them in a chunk, V rows of the head, D hidden size.  Log-ratios in nats,
at temperature 1.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from purified_opsd.objective.decomposition import decompose
from purified_opsd.objective.divergences import JSD
from purified_opsd.objective.targets import PMITarget

CHUNK_ELEMENTS = 2**22
"""Logits of one distribution that exist at once."""

TOP = 8
"""Tokens in each distribution's list, and in each list of what the target raises or lowers."""

SMALLEST_CHANGE = 1e-4
"""Changes of a probability that are smaller are left out of the lists."""

ANCHORS = ("base", "teacher")
"""What the target is compared with."""


@dataclass(frozen=True)
class TokenReadout:
    """One token of a completion under the five distributions."""

    id: int
    numbers: dict[str, float]
    """JSDs over the whole vocabulary; log-ratios of this token."""
    probabilities: dict[str, float]
    """The probability of this token under each distribution."""
    top: dict[str, list[tuple[int, float]]]
    """Each distribution's likeliest tokens with their probabilities."""
    raised: dict[str, list[tuple[int, float, float]]]
    """The tokens that the target raises most over each anchor: id, probability there and under
    the target.
    """
    lowered: dict[str, list[tuple[int, float, float]]]
    """The tokens that it lowers most, likewise."""

    @property
    def tokens(self) -> set[int]:
        """The id of every token that is named."""
        lists = (*self.top.values(), *self.raised.values(), *self.lowered.values())
        return {self.id, *(entry[0] for entries in lists for entry in entries)}


def read_tokens(
    hidden_ND: Mapping[str, Float[Tensor, "N D"]],
    ids_N: Int[Tensor, " N"],
    head: Callable[[Tensor], Tensor],
    target: PMITarget,
    top: int = TOP,
) -> list[TokenReadout]:
    """A readout for each token, from the hidden states [N, D] of student, base, teacher and
    reference; probabilities, and log-ratios in nats (docs/microscope.md).

    Raises FloatingPointError where a hidden state is not finite.
    """
    readouts: list[TokenReadout] = []
    with torch.no_grad():
        V = head(hidden_ND["student"][:1]).shape[-1]
        rows = max(1, CHUNK_ELEMENTS // V)
        for first in range(0, len(ids_N), rows):
            log_CV = {
                name: head(states[first : first + rows]).log_softmax(-1)
                for name, states in hidden_ND.items()
            }
            log_CV["target"] = target(log_CV["teacher"], log_CV["reference"], log_CV["base"])
            readouts += _chunk_readouts(log_CV, ids_N[first : first + rows], min(top, V))
    return readouts


def _chunk_readouts(log_CV: Mapping[str, Tensor], ids_C: Tensor, k: int) -> list[TokenReadout]:
    numbers = _numbers(log_CV, ids_C)
    if not all(torch.isfinite(values_C).all() for values_C in numbers.values()):
        raise FloatingPointError(
            "A token's divergence or log-ratio is not finite: the model's hidden states hold NaN "
            "or infinity, so nothing can be told of it. Look at an earlier checkpoint (--step), or "
            "load the model in float32 if it overflows in its own dtype."
        )
    p_CV = {name: log.exp() for name, log in log_CV.items()}
    numbers = {name: values_C.tolist() for name, values_C in numbers.items()}
    probabilities = {name: _of_token(p, ids_C).tolist() for name, p in p_CV.items()}
    top = {name: _pairs(*p.topk(k)) for name, p in p_CV.items()}
    target_CV = p_CV["target"]
    raised = {name: _largest(target_CV - p_CV[name], p_CV[name], target_CV, k) for name in ANCHORS}
    lowered = {name: _largest(p_CV[name] - target_CV, p_CV[name], target_CV, k) for name in ANCHORS}
    return [
        TokenReadout(
            id=id,
            numbers=_at(index, numbers),
            probabilities=_at(index, probabilities),
            top=_at(index, top),
            raised=_at(index, raised),
            lowered=_at(index, lowered),
        )
        for index, id in enumerate(ids_C.tolist())
    ]


def _numbers(log_CV: Mapping[str, Tensor], ids_C: Tensor) -> dict[str, Tensor]:
    jsd = JSD()
    parts = decompose(log_CV["student"], log_CV["teacher"], log_CV["reference"])
    return {
        "jsd_target": jsd(log_CV["student"], log_CV["target"]),
        "jsd_teacher": jsd(log_CV["student"], log_CV["teacher"]),
        "delta_it": _of_token(parts.transferable, ids_C),
        "delta_ref": _of_token(parts.reference, ids_C),
        **{
            f"{name}_minus_base": _of_token(log_CV[name] - log_CV["base"], ids_C)
            for name in ("student", "teacher", "target")
        },
    }


def _of_token(values_CV: Tensor, ids_C: Tensor) -> Tensor:
    return values_CV.gather(-1, ids_C[:, None]).squeeze(-1)


def _pairs(values_CK: Tensor, tokens_CK: Tensor) -> list[list[tuple[int, float]]]:
    return [
        list(zip(tokens, values, strict=True))
        for tokens, values in zip(tokens_CK.tolist(), values_CK.tolist(), strict=True)
    ]


def _largest(
    gap_CV: Tensor, p_CV: Tensor, target_CV: Tensor, k: int
) -> list[list[tuple[int, float, float]]]:
    """The k tokens with the largest gap in each row, as token, p and target."""
    gaps_CK, tokens_CK = gap_CV.topk(k)
    columns = (gaps_CK, tokens_CK, p_CV.gather(-1, tokens_CK), target_CV.gather(-1, tokens_CK))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [_large_enough(zip(*row, strict=True)) for row in rows]


def _large_enough(
    changes: Iterable[tuple[float, int, float, float]],
) -> list[tuple[int, float, float]]:
    return [(token, old, new) for gap, token, old, new in changes if gap >= SMALLEST_CHANGE]


def _at(index: int, by_name: Mapping[str, list]) -> dict:
    return {name: values[index] for name, values in by_name.items()}
