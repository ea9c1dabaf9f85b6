"""The distillation loss, Eq. 18, a chunk of tokens at a time: no [N, V] tensor ever exists.

N completion tokens, D hidden size, V rows of the head.  The gradient in the student's logits has a closed form, so it is taken in
the forward pass and only [N, D] is kept.  Arithmetic is float32, or wider where the hidden states are.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .divergences import Divergence
from .targets import PMITarget, Target

CHUNK_ELEMENTS = 2**24
"""Elements of one [chunk, V] buffer when `chunk_rows` is left open: 64 MiB in float32."""

Head = nn.Linear | Callable[[Tensor], Tensor]
"""From hidden states [n, D] to logits [n, V]: a plain linear layer, or any function that can be differentiated."""


class Terms(NamedTuple):
    """The loss, and what it was made of token by token (without a graph)."""

    loss: Float[Tensor, ""]
    divergence_N: Float[Tensor, " N"]
    log_prob_N: Float[Tensor, " N"]
    """The student's untempered log-prob of each token of the completion."""


def streamed_loss(
    student_ND: Float[Tensor, "N D"],
    contexts_ND: Mapping[str, Float[Tensor, "N D"]],
    head: Head,
    weight_N: Float[Tensor, " N"],
    *,
    target: Target,
    divergence: Divergence,
    chunk_rows: int | None = None,
) -> Float[Tensor, ""]:
    """Σ_n w_n D(π_θ ‖ P_target)_n, differentiable in the student's hidden states.  Eq. 18.

    `contexts_ND` holds the frozen base's hidden states for each of `target.contexts`; their gradient is not taken.
    Raises ValueError for shapes that do not fit and FloatingPointError where a token's divergence is not finite.
    """
    token_N = torch.zeros(len(student_ND), dtype=torch.long, device=student_ND.device)
    return streamed_terms(
        student_ND, contexts_ND, head, weight_N, token_N, target=target, divergence=divergence, chunk_rows=chunk_rows
    ).loss


def streamed_terms(
    student_ND: Float[Tensor, "N D"],
    contexts_ND: Mapping[str, Float[Tensor, "N D"]],
    head: Head,
    weight_N: Float[Tensor, " N"],
    token_N: Int[Tensor, " N"],
    *,
    target: Target,
    divergence: Divergence,
    temperature: float = 1.0,
    chunk_rows: int | None = None,
) -> Terms:
    """`streamed_loss`, with each token's divergence and the student's log-prob of `token_N`, which it computes anyway.

    `temperature` divides the logits of every distribution before anything else.
    """
    _check(student_ND, contexts_ND, head, weight_N, token_N, target, chunk_rows)
    dtype = torch.promote_types(student_ND.dtype, torch.float32)
    project = _Linear(head, dtype, temperature) if isinstance(head, nn.Linear) else _General(head, dtype, temperature)
    terms = Terms(*_Streamed.apply(student_ND, contexts_ND, weight_N, token_N, project, target, divergence, chunk_rows))
    _check_finite(terms.divergence_N)
    return terms


@runtime_checkable
class _Projection(Protocol):
    """Hidden states to logits in the arithmetic's dtype."""

    dtype: torch.dtype
    temperature: float

    def logits(self, hidden_CD: Tensor) -> Tensor: ...

    def logits_and_pullback(self, hidden_CD: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The logits, and the function from a gradient in them to the gradient in the hidden states."""
        ...

    def log_target(self, target: Target, contexts_CD: Mapping[str, Tensor]) -> Tensor: ...


class _General:
    """Any head: one projection a distribution."""

    def __init__(self, head: Callable[[Tensor], Tensor], dtype: torch.dtype, temperature: float):
        self.head, self.dtype, self.temperature = head, dtype, temperature

    def logits(self, hidden_CD: Tensor) -> Tensor:
        return self.head(hidden_CD.to(self.dtype)).to(self.dtype) / self.temperature

    def logits_and_pullback(self, hidden_CD: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        leaf_CD = hidden_CD.detach().to(self.dtype).requires_grad_()
        with torch.enable_grad():
            logits_CV = self.logits(leaf_CD)
        return logits_CV.detach(), lambda gradient_CV: torch.autograd.grad(logits_CV, leaf_CD, gradient_CV)[0]

    def log_target(self, target: Target, contexts_CD: Mapping[str, Tensor]) -> Tensor:
        return target(*(self.logits(contexts_CD[name]).log_softmax(-1) for name in target.contexts))


class _Linear:
    """A plain linear head: its pullback is a product, and the PMI target takes two projections where the formulas take three."""

    def __init__(self, head: nn.Linear, dtype: torch.dtype, temperature: float):
        self.weight_VD = head.weight.detach().to(dtype)
        self.bias_V = None if head.bias is None else head.bias.detach().to(dtype)
        self.dtype, self.temperature = dtype, temperature

    def logits(self, hidden_CD: Tensor) -> Tensor:
        return nn.functional.linear(hidden_CD.to(self.dtype), self.weight_VD, self.bias_V) / self.temperature

    def logits_and_pullback(self, hidden_CD: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return self.logits(hidden_CD), lambda gradient_CV: gradient_CV @ self.weight_VD / self.temperature

    def log_target(self, target: Target, contexts_CD: Mapping[str, Tensor]) -> Tensor:
        if isinstance(target, PMITarget):
            # Δ_it = W(h_T − h_ref) + a constant a row: the bias cancels, and Eq. 14 takes out the two log-normalisers.
            difference_CD = contexts_CD["teacher"].to(self.dtype) - contexts_CD["reference"].to(self.dtype)
            signal_CV = difference_CD @ self.weight_VD.T / self.temperature
            return target.from_signal(signal_CV, self.logits(contexts_CD["base"]))
        return target(*(self.logits(contexts_CD[name]).log_softmax(-1) for name in target.contexts))


class _Streamed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student_ND, contexts_ND, weight_N, token_N, project: _Projection, target, divergence, chunk_rows):
        N = len(student_ND)
        weight_N = weight_N.to(project.dtype)
        divergence_N, log_prob_N = torch.empty_like(weight_N), torch.empty_like(weight_N)
        gradient_ND = torch.empty_like(student_ND, dtype=project.dtype) if ctx.needs_input_grad[0] else None
        for first in range(0, N, chunk_rows := chunk_rows or _chunk_rows(project, student_ND)):
            rows = slice(first, first + chunk_rows)
            logits_CV, pullback = project.logits_and_pullback(student_ND[rows])
            log_student_CV = logits_CV.log_softmax(-1)
            untempered_CV = log_student_CV if project.temperature == 1 else (logits_CV * project.temperature).log_softmax(-1)
            log_prob_N[rows] = untempered_CV.gather(-1, token_N[rows, None]).squeeze(-1)
            log_target_CV = project.log_target(target, {name: hidden[rows] for name, hidden in contexts_ND.items()})
            if gradient_ND is None:
                divergence_N[rows] = divergence(log_student_CV, log_target_CV)
            else:
                divergence_N[rows], gradient_CV = divergence.value_and_gradient(log_student_CV, log_target_CV)
                gradient_ND[rows] = weight_N[rows, None] * pullback(gradient_CV)
        ctx.student_dtype = student_ND.dtype
        ctx.save_for_backward(gradient_ND)
        ctx.mark_non_differentiable(divergence_N, log_prob_N)
        return divergence_N @ weight_N, divergence_N, log_prob_N

    @staticmethod
    def backward(ctx, upstream, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient_ND,) = ctx.saved_tensors
        return (upstream * gradient_ND).to(ctx.student_dtype), *[None] * 7


def _chunk_rows(project: _Projection, student_ND: Tensor) -> int:
    """As many rows as keep one [chunk, V] buffer near `CHUNK_ELEMENTS`."""
    V = project.logits(student_ND[:1].detach()).shape[-1]
    return max(1, CHUNK_ELEMENTS // V)


def _check(student_ND, contexts_ND, head, weight_N, token_N, target, chunk_rows) -> None:
    N = len(student_ND)
    missing = [name for name in target.contexts if name not in contexts_ND]
    if missing:
        raise ValueError(
            f"{type(target).__name__} needs the hidden states of {', '.join(target.contexts)}; got "
            f"{', '.join(contexts_ND) or 'none'}. Score the completions under {', '.join(missing)} as well."
        )
    for name, hidden_ND in contexts_ND.items():
        if hidden_ND.shape != student_ND.shape:
            raise ValueError(
                f"contexts_ND['{name}'] has shape {list(hidden_ND.shape)}, the student {list(student_ND.shape)}: row n must be "
                "the same completion token in each. Lay the same completions end to end under every context."
            )
    if len(weight_N) != N or len(token_N) != N:
        raise ValueError(
            f"{N} completion tokens, but {len(weight_N)} weights and {len(token_N)} token ids: give one of each a token."
        )
    if chunk_rows is not None and chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, got {chunk_rows}. Leave it out to have it chosen from the head's rows.")
    if isinstance(head, nn.Linear) and head.weight.device != student_ND.device:
        raise ValueError(f"The head is on {head.weight.device}, the hidden states on {student_ND.device}: move one of them.")


def _check_finite(divergence_N: Tensor) -> None:
    bad_N = ~torch.isfinite(divergence_N)
    if bad_N.any():
        raise FloatingPointError(
            f"{int(bad_N.sum())} of {len(bad_N)} completion tokens have a divergence that is not finite (the first is row "
            f"{int(bad_N.nonzero()[0])}): a hidden state of the student or of a context holds NaN or infinity, so no gradient was "
            "taken. Lower the learning rate, or train in float32 if the model overflows in its own dtype."
        )
