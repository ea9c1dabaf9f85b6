"""The loss, as Section 3.2 of the paper writes it.

N completion tokens, V rows of the head.  Every argument is the same N tokens ŷ, read by one of the
four models of Step 1, as full log-distributions.  Nothing here is fast or small: `chunked_loss.py`
computes the same number from hidden states, and the tests hold it to these lines.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from .divergences import JSD, Divergence
from .loss_inputs import check_contexts, check_finite, check_instances, check_tokens
from .targets import LogProbs, Target, UpToConstant, center, pmi_signal, soft_clip, tilt

D_JSD = JSD()
"""The paper leaves the weight of its generalised JSD open; ours is one half."""


def purified_loss(
    log_student: LogProbs,
    log_teacher: LogProbs,
    log_reference: LogProbs,
    log_base: LogProbs,
    weight_N: Float[Tensor, " N"],
    *,
    beta: float = 1.0,
    clip: float = 10.0,
    divergence: Divergence = D_JSD,
    center_rows: int | None = None,
) -> Float[Tensor, ""]:
    """Purified OPSD: Σ_n w_n D_JSD(π_θ ‖ P_target)_n.  Steps 2 to 6.

    The weight of a token is the 1/T of Eq. 18, further averaged over the batch (`averaging.py`).
    """
    signal = pmi_signal(log_teacher, log_reference)  # Step 2, Eq. 13:  Δ_it = log π_T − log π_ref
    centered = center(signal, center_rows)  # Step 3, Eq. 14:  Δ̄ = Δ_it − mean_v Δ_it
    clipped = soft_clip(centered, clip)  # Step 4, Eq. 15:  Δ̃ = c·tanh(Δ̄ / c)
    log_target = tilt(log_base, clipped, beta)  # Step 5, Eqs. 16, 17:  softmax(log π_0 + Δ̃ / β)
    divergence_N = divergence(log_student, log_target)  # Step 6:  D_JSD(π_θ ‖ P_target) a token
    return (weight_N * divergence_N).sum()  # Step 6, Eqs. 12, 18:  (1/T) Σ_t


def standard_loss(
    log_student: LogProbs,
    log_teacher: LogProbs,
    weight_N: Float[Tensor, " N"],
    *,
    divergence: Divergence = D_JSD,
) -> Float[Tensor, ""]:
    """Standard OPSD, the arm that the paper compares with: Σ_n w_n D_JSD(π_θ ‖ π_T)_n."""
    divergence_N = divergence(log_student, log_teacher)  # Eq. 1:  D_JSD(π_θ ‖ π_T) a token
    return (weight_N * divergence_N).sum()  # Eq. 3:  (1/T) Σ_t


def loss_from_logits(
    student_NV: UpToConstant,
    contexts_NV: Mapping[str, UpToConstant],
    weight_N: Float[Tensor, " N"],
    *,
    target: Target,
    divergence: Divergence,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Returns the loss of either arm, in nats, from full logits [N, V] (log-probs are logits too),
    differentiable in the student's by autograd.  Eqs. 3 and 18.  `chunked_loss` takes hidden states
    instead, and far less memory.

    `contexts_NV` holds the frozen base's logits for each of `target.contexts`; their gradient is
    not taken.  `temperature` divides the logits of every distribution before anything else.
    Arithmetic is float32, or wider where the logits are.

    Raises TypeError for a class given as target or divergence, ValueError for shapes that do not
    fit, and FloatingPointError where a token's divergence is not finite.
    """
    check_instances(target=target, divergence=divergence)
    check_contexts(target, contexts_NV, "NV")
    check_tokens(student_NV, contexts_NV, {"weight_N": weight_N}, "NV")

    def log_probs(logits_NV: UpToConstant) -> LogProbs:
        dtype = torch.promote_types(logits_NV.dtype, torch.float32)
        return (logits_NV.to(dtype) / temperature).log_softmax(-1)

    with torch.no_grad():
        log_target = target(*(log_probs(contexts_NV[name]) for name in target.contexts))
    divergence_N = divergence(log_probs(student_NV), log_target)
    check_finite(divergence_N)
    return (weight_N.to(divergence_N.dtype) * divergence_N).sum()
