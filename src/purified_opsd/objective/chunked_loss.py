"""The loss of `loss.py` from hidden states, a chunk of tokens at a time: no [N, V] tensor exists.

N completion tokens, D hidden size, V rows of the head; C rows of a chunk, R rows of a tile.
Arithmetic is float32, or wider where the hidden states are.

What is done instead of the ten lines, and why it is the same:

1. Tokens are independent of each other but for the weighted sum, so they are taken a chunk at a
   time.  Only a chunk's logits exist at once, in buffers that the next chunk uses again.
2. Logits are projected here, from hidden states, with float32 results.  For the PMI target and a
   linear head W two products give the target where Eqs. 13 to 17 read three: W(h_T − h_ref) is Δ_it
   up to a constant a row, which centring takes out, and W h_0 is log π_0 up to one, which softmax
   takes out (`LinearPMILoss` in `kernels.py`).
3. The elementwise part, Eqs. 14 to 18, is done a tile at a time, a few rows of a chunk whose
   intermediate results stay in the cache (`tile_terms` in `kernels.py`).
4. The divergence's gradient in the student's logits has a closed form (`value_and_gradient` in
   `divergences.py`; tests hold it to autograd), so it is taken in the forward pass, where the
   logits are at hand, and written over them.
5. One product takes it back to the hidden states, times each token's weight: the loss is linear in
   the divergences, so of the whole forward pass only this [N, D] gradient is kept.
6. The backward pass multiplies it by the upstream gradient.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .divergences import Divergence
from .head import Head, HeadProjection, project_with
from .kernels import Compiled, Kernels, TileKernel, TokenLoss
from .loss_inputs import (
    check_chunk_rows,
    check_contexts,
    check_finite,
    check_instances,
    check_tokens,
)
from .targets import Target

DEFAULT_KERNELS = Compiled()

CPU_CHUNK_ELEMENTS = 2**24
"""Elements of one [chunk, V] buffer: 64 MiB in float32.  Products with fewer rows would read the
head's weights too often.
"""

GPU_CHUNK_ELEMENTS = 2**27
"""The same on a GPU, unless that is more than a hundredth of its memory."""

CPU_TILE_ELEMENTS = 2**17
"""Elements of one [tile, V] result, a thread: half a MiB in float32, so that the dozen that the
formulas need stay near the cache.
"""

TILES_PER_CHUNK = 8
"""A chunk has at least this many tiles, so that a dozen [tile, V] results take less than two
[chunk, V] buffers.
"""


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
    temperature: float = 1.0,
    kernels: Kernels = DEFAULT_KERNELS,
    chunk_rows: int | None = None,
) -> Float[Tensor, ""]:
    """Returns Σ_n w_n D(π_θ ‖ P_target)_n in nats, differentiable in the student's hidden states
    [N, D].  Eq. 18.

    `contexts_ND` holds the frozen base's hidden states [N, D] for each of `target.contexts`; their
    gradient is not taken, nor is the head's.  `temperature` divides the logits of every
    distribution before anything else.

    Raises TypeError for a class given as target, divergence or kernels; ValueError for shapes that
    do not fit or a head that is being trained; and FloatingPointError where a token's divergence is
    not finite.
    """
    return chunked_terms(
        student_ND,
        contexts_ND,
        head,
        weight_N,
        token_N=torch.zeros(student_ND.shape[:1], dtype=torch.long, device=student_ND.device),
        target=target,
        divergence=divergence,
        temperature=temperature,
        kernels=kernels,
        chunk_rows=chunk_rows,
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
    """Returns `chunked_loss` with each token's divergence and the student's log-prob of `token_N`,
    both of which it computes anyway.  Raises what that raises.
    """
    check_instances(target=target, divergence=divergence, kernels=kernels)
    check_contexts(target, contexts_ND, "ND")
    check_tokens(student_ND, contexts_ND, {"weight_N": weight_N, "token_N": token_N}, "ND")
    check_chunk_rows(chunk_rows)
    projection = project_with(head, student_ND)
    plan = _Plan(
        projection=projection,
        target=target,
        token_loss=projection.token_loss(target, divergence, temperature),
        kernel=kernels(projection.V),
        sizes=chunk_sizes(projection.V, student_ND.device, chunk_rows),
    )
    terms = LossTerms(*_ChunkedLoss.apply(student_ND, contexts_ND, weight_N, token_N, plan))
    check_finite(terms.divergence_N)
    return terms


class _Plan(NamedTuple):
    """How a loss is computed: projected by the head, and made terms of tile by tile."""

    projection: HeadProjection
    target: Target
    token_loss: TokenLoss
    kernel: TileKernel
    sizes: "ChunkSizes"


class _ChunkedLoss(torch.autograd.Function):
    """The numbered steps of the module's docstring."""

    @staticmethod
    def forward(ctx, student_ND, contexts_ND, weight_N, token_N, plan: _Plan):
        projection, target, token_loss, kernel, sizes = plan
        weight_N = weight_N.to(projection.dtype)
        divergence_N, log_prob_N = torch.empty_like(weight_N), torch.empty_like(weight_N)
        gradient_ND = None
        if ctx.needs_input_grad[0]:
            gradient_ND = torch.empty_like(student_ND, dtype=projection.dtype)

        # 1. A chunk of tokens at a time.
        for chunk in slices(len(student_ND), sizes.chunk):
            # 2. Hidden states to logits, in the buffers of the chunk before.
            student_CV, backward = projection.student_logits(student_ND[chunk])
            contexts_CD = {name: hidden_ND[chunk] for name, hidden_ND in contexts_ND.items()}
            contexts_CV = projection.context_logits(target, contexts_CD)

            # 3. and 4. Logits to divergences, a tile at a time; the kernel writes the divergence's
            # gradient over the student's logits.
            token_C = token_N[chunk]
            divergence_C, log_prob_C = divergence_N[chunk], log_prob_N[chunk]  # views
            for tile in slices(len(student_CV), sizes.tile):
                contexts_RV = tuple(logits_CV[tile] for logits_CV in contexts_CV)
                terms = kernel(token_loss, token_C[tile], student_CV[tile], contexts_RV)
                divergence_C[tile], log_prob_C[tile] = terms

            # 5. The gradient in the tempered logits to one in the hidden states.
            if gradient_ND is not None:
                scale_C = weight_N[chunk] / token_loss.temperature
                gradient_ND[chunk] = scale_C[:, None] * backward(student_CV)

        ctx.student_dtype = student_ND.dtype
        ctx.save_for_backward(gradient_ND)
        ctx.mark_non_differentiable(divergence_N, log_prob_N)
        return divergence_N @ weight_N, divergence_N, log_prob_N

    @staticmethod
    def backward(ctx, upstream, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        # 6. The chain rule.
        (gradient_ND,) = ctx.saved_tensors
        return (upstream * gradient_ND).to(ctx.student_dtype), *[None] * 4


class ChunkSizes(NamedTuple):
    """Rows of a chunk, whose logits exist at once, and of a tile, whose intermediate results do."""

    chunk: int
    tile: int


def chunk_sizes(V: int, device: torch.device, chunk_rows: int | None = None) -> ChunkSizes:
    """Chosen from V and the machine alone, so they are the same at every call; `chunk_rows`
    overrides the chunk.
    """
    if device.type == "cuda":
        gpu_bytes = torch.cuda.get_device_properties(device).total_memory
        return gpu_chunk_sizes(gpu_bytes, V, chunk_rows)
    chunk = chunk_rows or max(1, CPU_CHUNK_ELEMENTS // V)
    cached = max(1, CPU_TILE_ELEMENTS // V) * torch.get_num_threads()
    return ChunkSizes(chunk, max(1, min(cached, chunk // TILES_PER_CHUNK)))


def gpu_chunk_sizes(gpu_bytes: int, V: int, chunk_rows: int | None = None) -> ChunkSizes:
    """The same for a GPU of that memory."""
    hundredth = gpu_bytes // 100 // 4
    chunk = chunk_rows or max(1, min(hundredth, GPU_CHUNK_ELEMENTS) // V)
    return ChunkSizes(chunk, max(1, chunk // TILES_PER_CHUNK))


def slices(length: int, rows: int) -> Iterator[slice]:
    """Cuts 0 to `length` into slices of `rows`; the last may be shorter."""
    return (slice(first, min(first + rows, length)) for first in range(0, length, rows))
