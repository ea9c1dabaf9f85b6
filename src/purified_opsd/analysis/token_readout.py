"""What each distribution makes of each token of a completion: student, base, teacher, reference
probe and purified target.

N completion tokens, C of them in a chunk, V rows of the head, D hidden size.  Log-ratios in nats,
at temperature 1.
"""

from collections.abc import Callable, Mapping
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
"""Tokens told of each distribution, and of each list of what the target raises or lowers."""

SMALLEST_CHANGE = 1e-4
"""What the target raises or lowers by less is not told."""

ANCHORS = ("base", "teacher")
"""What the target is compared with."""


@dataclass(frozen=True)
class Reading:
    """One token of a completion under the five distributions."""

    id: int
    numbers: dict[str, float]
    """JSDs over the whole vocabulary; log-ratios of this token."""
    probabilities: dict[str, float]
    """Of this token, by distribution."""
    top: dict[str, list[tuple[int, float]]]
    """Each distribution's likeliest tokens with their probabilities."""
    raised: dict[str, list[tuple[int, float, float]]]
    """Against each anchor, what the target raises most: token, its probability there and under the
    target.
    """
    lowered: dict[str, list[tuple[int, float, float]]]

    @property
    def tokens(self) -> set[int]:
        """Every token that is told of."""
        lists = (*self.top.values(), *self.raised.values(), *self.lowered.values())
        return {self.id, *(entry[0] for entries in lists for entry in entries)}


def read_tokens(
    hidden_ND: Mapping[str, Float[Tensor, "N D"]],
    ids_N: Int[Tensor, " N"],
    head: Callable[[Tensor], Tensor],
    target: PMITarget,
    top: int = TOP,
) -> list[Reading]:
    """A reading a token, from the hidden states of student, base, teacher and reference; in chunks
    of rows.

    Raises FloatingPointError where a hidden state is not finite.
    """
    readings: list[Reading] = []
    with torch.no_grad():
        V = head(hidden_ND["student"][:1]).shape[-1]
        rows = max(1, CHUNK_ELEMENTS // V)
        for first in range(0, len(ids_N), rows):
            log_CV = {
                name: head(states[first : first + rows]).log_softmax(-1)
                for name, states in hidden_ND.items()
            }
            log_CV["target"] = target(log_CV["teacher"], log_CV["reference"], log_CV["base"])
            readings += _chunk_readings(log_CV, ids_N[first : first + rows], min(top, V))
    return readings


def _chunk_readings(log_CV: Mapping[str, Tensor], ids_C: Tensor, k: int) -> list[Reading]:
    numbers = _numbers(log_CV, ids_C)
    if not all(torch.isfinite(values_C).all() for values_C in numbers.values()):
        raise FloatingPointError(
            "A token's divergence or log-ratio is not finite: the model's hidden states hold NaN "
            "or infinity, so nothing can be told of it. Look at an earlier checkpoint (--step), or "
            "load the model in float32 if it overflows in its own dtype."
        )
    p_CV = {name: log.exp() for name, log in log_CV.items()}
    own = {name: _of_token(p, ids_C).tolist() for name, p in p_CV.items()}
    top = {name: _pairs(*p.topk(k)) for name, p in p_CV.items()}
    target_CV = p_CV["target"]
    raised = {name: _largest(target_CV - p_CV[name], p_CV[name], target_CV, k) for name in ANCHORS}
    lowered = {name: _largest(p_CV[name] - target_CV, p_CV[name], target_CV, k) for name in ANCHORS}
    columns = (
        {name: values_C.tolist() for name, values_C in numbers.items()},
        own,
        top,
        raised,
        lowered,
    )
    return [
        Reading(id, *(_at(place, column) for column in columns))
        for place, id in enumerate(ids_C.tolist())
    ]


def _numbers(log_CV: Mapping[str, Tensor], ids_C: Tensor) -> dict[str, Tensor]:
    parts, jsd = decompose(log_CV["student"], log_CV["teacher"], log_CV["reference"]), JSD()
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
    """Of each row the k tokens with the largest gap, if it is large enough: token, p and target."""
    gaps_CK, tokens_CK = gap_CV.topk(k)
    columns = (gaps_CK, tokens_CK, p_CV.gather(-1, tokens_CK), target_CV.gather(-1, tokens_CK))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        [
            (token, old, new)
            for gap, token, old, new in zip(*row, strict=True)
            if gap >= SMALLEST_CHANGE
        ]
        for row in rows
    ]


def _at(place: int, by_name: Mapping[str, list]) -> dict:
    return {name: values[place] for name, values in by_name.items()}
