"""The distillation loss, Eq. 18, a chunk of tokens at a time: no [N, V] tensor ever exists.

N completion tokens, D hidden size, V rows of the head.  The gradient in the student's logits has a
closed form, so it is taken in the forward pass and only [N, D] is kept.  Arithmetic is float32, or
wider where the hidden states are.

How many rows are worked on at once.  V rows of the head.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .divergences import Divergence
from .head import Head, Projection, projection_by
from .kernels import Compiled, Formula, Kernels, Strip
from .targets import Target

CPU_CHUNK_ELEMENTS = 2**24
"""Of one [chunk, V] buffer: 64 MiB in float32.  Products with fewer rows read the head's weights
too often.
"""

GPU_CHUNK_ELEMENTS = 2**27
"""The same on a GPU, unless that is more than a hundredth of its memory."""

CPU_STRIP_ELEMENTS = 2**17
"""Of one [strip, V] result, a thread: half a MiB in float32, so that the dozen that the formulas
need stay near the cache.
"""

STRIPS = 8
"""A chunk has at least this many strips, so that a dozen [strip, V] results take less than two
[chunk, V] buffers.
"""


class Rows(NamedTuple):
    """Rows of a chunk, whose logits exist at once, and of a strip, whose intermediate results do."""

    chunk: int
    strip: int


def rows_for(V: int, device: torch.device, chunk_rows: int | None = None) -> Rows:
    """From V and the machine alone, so the same at every call; `chunk_rows` overrides the chunk."""
    if device.type == "cuda":
        return rows_within(torch.cuda.get_device_properties(device).total_memory, V, chunk_rows)
    chunk = chunk_rows or max(1, CPU_CHUNK_ELEMENTS // V)
    cached = max(1, CPU_STRIP_ELEMENTS // V) * torch.get_num_threads()
    return Rows(chunk, max(1, min(cached, chunk // STRIPS)))


def rows_within(gpu_bytes: int, V: int, chunk_rows: int | None = None) -> Rows:
    """For a GPU of that memory."""
    hundredth = gpu_bytes // 100 // 4
    chunk = chunk_rows or max(1, min(hundredth, GPU_CHUNK_ELEMENTS) // V)
    return Rows(chunk, max(1, chunk // STRIPS))


def slices(length: int, rows: int) -> Iterator[slice]:
    """0 to length, `rows` at a time."""
    return (slice(first, min(first + rows, length)) for first in range(0, length, rows))


pass

DEFAULT_KERNELS = Compiled()


class LossTerms(NamedTuple):
    """The loss, and what it was made of token by token (without a graph)."""

    loss: Float[Tensor, ""]
    divergence_N: Float[Tensor, " N"]
    log_prob_N: Float[Tensor, " N"]
    """The student's untempered log-prob of each token of the completion."""


def chunked_loss(
    student_ND: Float[Tensor, "N D"],
    contexts_ND: Mapping[str, Float[Tensor, "N D"]],
    head: Head,
    weight_N: Float[Tensor, " N"],
    *,
    target: Target,
    divergence: Divergence,
    kernels: Kernels = DEFAULT_KERNELS,
    chunk_rows: int | None = None,
) -> Float[Tensor, ""]:
    """Σ_n w_n D(π_θ ‖ P_target)_n, differentiable in the student's hidden states.  Eq. 18.

    `contexts_ND` holds the frozen base's hidden states for each of `target.contexts`; their
    gradient is not taken. Raises ValueError for shapes that do not fit and FloatingPointError where
    a token's divergence is not finite.
    """
    token_N = torch.zeros(len(student_ND), dtype=torch.long, device=student_ND.device)
    inputs = (student_ND, contexts_ND, head, weight_N, token_N)
    return chunked_terms(
        *inputs, target=target, divergence=divergence, kernels=kernels, chunk_rows=chunk_rows
    ).loss


def chunked_terms(
    student_ND: Float[Tensor, "N D"],
    contexts_ND: Mapping[str, Float[Tensor, "N D"]],
    head: Head,
    weight_N: Float[Tensor, " N"],
    token_N: Int[Tensor, " N"],
    *,
    target: Target,
    divergence: Divergence,
    temperature: float = 1.0,
    kernels: Kernels = DEFAULT_KERNELS,
    chunk_rows: int | None = None,
) -> LossTerms:
    """`chunked_loss`, with each token's divergence and the student's log-prob of `token_N`, which
    it computes anyway.

    `temperature` divides the logits of every distribution before anything else.
    """
    _check(student_ND, contexts_ND, head, weight_N, token_N, target, chunk_rows)
    projection = projection_by(head, student_ND)
    formula = projection.formula(target, divergence, temperature)
    way = _Way(
        projection,
        formula,
        kernels(projection.V),
        rows_for(projection.V, student_ND.device, chunk_rows),
    )
    terms = LossTerms(*_Streamed.apply(student_ND, contexts_ND, weight_N, token_N, way))
    _check_finite(terms.divergence_N)
    return terms


class _Way(NamedTuple):
    """How a loss is computed: products by the projection, and what the formula makes of them by
    strips.
    """

    projection: Projection
    formula: Formula
    strip: Strip
    rows: Rows


class _Streamed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student_ND, contexts_ND, weight_N, token_N, way: _Way):
        projection, formula, strip, rows = way
        weight_N = weight_N.to(projection.dtype)
        divergence_N, log_prob_N = torch.empty_like(weight_N), torch.empty_like(weight_N)
        gradient_ND = (
            torch.empty_like(student_ND, dtype=projection.dtype)
            if ctx.needs_input_grad[0]
            else None
        )
        for chunk in slices(len(student_ND), rows.chunk):
            logits_CV, pullback = projection.student(student_ND[chunk])
            contexts_CV = projection.contexts(
                formula.target, {name: hidden[chunk] for name, hidden in contexts_ND.items()}
            )
            for part in slices(len(logits_CV), rows.strip):
                contexts_RV = tuple(logits[part] for logits in contexts_CV)
                terms = strip(formula, token_N[chunk][part], logits_CV[part], contexts_RV)
                divergence_N[chunk][part], log_prob_N[chunk][part] = terms
            if gradient_ND is not None:  # the strips have written the gradient over the logits
                gradient_ND[chunk] = (weight_N[chunk] / formula.temperature)[:, None] * pullback(
                    logits_CV
                )
        ctx.student_dtype = student_ND.dtype
        ctx.save_for_backward(gradient_ND)
        ctx.mark_non_differentiable(divergence_N, log_prob_N)
        return divergence_N @ weight_N, divergence_N, log_prob_N

    @staticmethod
    def backward(ctx, upstream, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient_ND,) = ctx.saved_tensors
        return (upstream * gradient_ND).to(ctx.student_dtype), *[None] * 4


def _check(student_ND, contexts_ND, head, weight_N, token_N, target, chunk_rows) -> None:
    N = len(student_ND)
    missing = [name for name in target.contexts if name not in contexts_ND]
    if missing:
        raise ValueError(
            f"{type(target).__name__} needs the hidden states of {', '.join(target.contexts)}; got "
            f"{', '.join(contexts_ND) or 'none'}. Score the completions under {', '.join(missing)} "
            "as well."
        )
    for name, hidden_ND in contexts_ND.items():
        if hidden_ND.shape != student_ND.shape:
            raise ValueError(
                f"contexts_ND['{name}'] has shape {list(hidden_ND.shape)}, the student "
                f"{list(student_ND.shape)}: row n must be the same completion token in each. Lay "
                "the same completions end to end under every context."
            )
    if len(weight_N) != N or len(token_N) != N:
        raise ValueError(
            f"{N} completion tokens, but {len(weight_N)} weights and {len(token_N)} token ids: "
            "give one of each a token."
        )
    if chunk_rows is not None and chunk_rows < 1:
        raise ValueError(
            f"chunk_rows must be at least 1, got {chunk_rows}. Leave it out to have it chosen from "
            "the head's rows."
        )
    places = {f"contexts_ND['{name}']": hidden_ND for name, hidden_ND in contexts_ND.items()}
    places |= {"weight_N": weight_N, "token_N": token_N} | (
        {"the head": head.weight} if isinstance(head, nn.Linear) else {}
    )
    for name, tensor in places.items():
        if tensor.device != student_ND.device:
            raise ValueError(
                f"{name} is on {tensor.device}, the student's hidden states on "
                f"{student_ND.device}: all must be on one device. Move one of them."
            )


def _check_finite(divergence_N: Tensor) -> None:
    bad_N = ~torch.isfinite(divergence_N)
    if bad_N.any():
        raise FloatingPointError(
            f"{int(bad_N.sum())} of {len(bad_N)} completion tokens have a divergence that is not "
            f"finite (the first is row {int(bad_N.nonzero()[0])}): a hidden state of the student "
            "or of a context holds NaN or infinity, so no gradient was taken. Lower the learning "
            "rate, or train in float32 if the model overflows in its own dtype."
        )
