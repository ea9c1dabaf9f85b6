"""What the losses refuse, with an error that says what was got, why it cannot be right, and what to
do.  Unchecked, most of it would train on in silence.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from .targets import Target

Letters = Literal["ND", "NV"]
"""The dimensions of what a loss takes: hidden states [N, D] or logits [N, V]."""

CONTENTS: Mapping[Letters, str] = {"ND": "hidden states", "NV": "logits"}


def check_instances(**settings: object) -> None:
    """Raises TypeError for a class given where an instance of it is needed."""
    for name, value in settings.items():
        if isinstance(value, type):
            raise TypeError(
                f"{name} is the class {value.__name__}, not an instance of it: its settings are "
                f"the instance's. Give {name}={value.__name__}()."
            )


def check_contexts(target: Target, contexts: Mapping[str, Tensor], letters: Letters) -> None:
    """Raises ValueError unless every context that the target needs is there."""
    missing = [name for name in target.contexts if name not in contexts]
    if missing:
        raise ValueError(
            f"{type(target).__name__} needs the {CONTENTS[letters]} of "
            f"{', '.join(target.contexts)}; got {', '.join(contexts) or 'none'}. Score the "
            f"completions under {', '.join(missing)} as well."
        )


def check_tokens(
    student: Tensor,
    contexts: Mapping[str, Tensor],
    per_token: Mapping[str, Tensor],
    letters: Letters,
) -> None:
    """Raises ValueError unless each context has a row, and each of `per_token` an entry, for each
    of the student's completion tokens, and all are on one device.
    """
    if student.dim() != 2:
        N, width = letters
        raise ValueError(
            f"student_{letters} has shape {list(student.shape)}, and must be [{N}, {width}]: the "
            "completion tokens of all sequences laid end to end, so that neither padding nor "
            "prompts are trained on. Select them with a mask [B, T] of the completion's tokens, "
            f"x[mask], the student's and every context's alike, and give {N} weights."
        )
    N = len(student)
    for name, tensor in contexts.items():
        if tensor.shape != student.shape:
            raise ValueError(
                f"contexts_{letters}['{name}'] has shape {list(tensor.shape)}, the student "
                f"{list(student.shape)}: row n must be the same completion token in each. Lay "
                "the same completions end to end under every context."
            )
    for name, tensor in per_token.items():
        if tensor.shape != (N,):
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}, and there are {N} completion tokens: give "
                "one entry a token, in the order of the student's rows."
            )
    named_contexts = {f"contexts_{letters}['{name}']": each for name, each in contexts.items()}
    for name, tensor in (named_contexts | dict(per_token)).items():
        check_device(name, tensor, student, letters)


def check_device(name: str, tensor: Tensor, student: Tensor, letters: Letters = "ND") -> None:
    """Raises ValueError where a tensor is not where the student's rows are."""
    if tensor.device != student.device:
        raise ValueError(
            f"{name} is on {tensor.device}, the student's {CONTENTS[letters]} on "
            f"{student.device}: all must be on one device. Move one of them."
        )


def check_linear_head(head: nn.Linear, student_ND: Tensor) -> None:
    """Raises ValueError for a head on another device, or one that is being trained."""
    check_device("the head", head.weight, student_ND)
    trained = [name for name, parameter in head.named_parameters() if parameter.requires_grad]
    if trained and torch.is_grad_enabled():
        raise _trained_head(f"its {' and its '.join(trained)} requires grad")


def check_function_head(logits_1V: Tensor) -> None:
    """Raises ValueError for a head that is being trained: one whose logits of hidden states without
    a graph have a graph.
    """
    if logits_1V.requires_grad:
        raise _trained_head("its logits of detached hidden states require grad")


def _trained_head(evidence: str) -> ValueError:
    return ValueError(
        f"The head is being trained ({evidence}), but this loss gives a gradient to the student's "
        "hidden states alone: the head's would be dropped in silence. Student and contexts are "
        "compared through one frozen head: call head.requires_grad_(False). To train the head all "
        "the same, give its logits to loss_from_logits, which autograd follows throughout."
    )


def check_chunk_rows(chunk_rows: int | None) -> None:
    """Raises ValueError for a chunk of no rows."""
    if chunk_rows is not None and chunk_rows < 1:
        raise ValueError(
            f"chunk_rows must be at least 1, got {chunk_rows}. Leave it out to have it chosen from "
            "the head's rows."
        )


def check_finite(divergence_N: Tensor) -> None:
    """Raises FloatingPointError where a token's divergence is NaN or infinite."""
    bad_N = ~torch.isfinite(divergence_N)
    if bad_N.any():
        raise FloatingPointError(
            f"{int(bad_N.sum())} of {len(bad_N)} completion tokens have a divergence that is not "
            f"finite (the first is row {int(bad_N.nonzero()[0])}): a hidden state or logit of "
            "the student or of a context holds NaN or infinity, so no gradient was taken. Lower "
            "the learning rate, or train in float32 if the model overflows in its own dtype."
        )
