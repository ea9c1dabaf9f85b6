"""Hidden states that predict the tokens of completions, under any prompt.

B sequences; N completion tokens, laid end to end; D hidden size.

Micro-batches by a token budget: sequences of like length together, so that little of what is
computed is padding.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor

from .model import base_of

pass

Ids = Sequence[int]


def completion_hidden(
    model: PeftModel, prompts: Sequence[Ids], completions: Sequence[Ids]
) -> Float[Tensor, "N D"]:
    """The decoder's last hidden states, after its final norm, at the positions that predict each
    completion token.

    One padded batch, padded on the right only, so prompt and completion are never apart, and causal
    attention sees no padding without a mask, which would keep it from the kernel that leaves out
    what lies ahead. Row n is the n-th token of the completions laid end to end.
    """
    sequences = [
        [*prompt, *completion[:-1]] for prompt, completion in zip(prompts, completions, strict=True)
    ]
    S = max(map(len, sequences))
    ids_BS = torch.tensor(
        [[*sequence, *[0] * (S - len(sequence))] for sequence in sequences], device=model.device
    )
    with working_precision(model):
        decoder = base_of(model).get_decoder()
        hidden_BSD = decoder(input_ids=ids_BS, use_cache=False).last_hidden_state
    rows = zip(hidden_BSD, prompts, completions, strict=True)
    return torch.cat(
        [hidden[len(prompt) - 1 :][: len(completion)] for hidden, prompt, completion in rows]
    )


def contexts_hidden(
    model: PeftModel,
    prompts: Mapping[str, Sequence[Ids]],
    completions: Sequence[Ids],
    token_budget: int,
) -> dict[str, Float[Tensor, "N D"]]:
    """`completion_hidden` of the same completions under several contexts, batched together by
    length.  Without a graph.
    """
    every_prompt = list(chain(*prompts.values()))
    every_completion = list(completions) * len(prompts)
    lengths = [len(p) + len(c) - 1 for p, c in zip(every_prompt, every_completion, strict=True)]
    pieces: list[Tensor] = [torch.empty(0)] * len(lengths)
    with torch.no_grad():
        for group in micro_batches(lengths, token_budget):
            of_group = [every_completion[i] for i in group]
            hidden_ND = completion_hidden(model, [every_prompt[i] for i in group], of_group)
            for place, piece in zip(
                group, hidden_ND.split([len(c) for c in of_group]), strict=True
            ):
                pieces[place] = piece
    B = len(completions)
    return {name: torch.cat(pieces[k * B : (k + 1) * B]) for k, name in enumerate(prompts)}


def working_precision(model: PeftModel) -> AbstractContextManager:
    """Matrix products in the base's dtype also where the adapter's float32 weights take part."""
    dtype = base_of(model).dtype
    return (
        torch.autocast(model.device.type, dtype=dtype) if dtype == torch.bfloat16 else nullcontext()
    )


MOST_PADDING = 0.1
"""The share of a micro-batch's tokens that may be padding."""


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Places of the sequences, shortest first, in groups whose padded size (rows x longest) stays
    within the budget and whose padding stays within `MOST_PADDING` of it.

    A sequence longer than the budget gets a group of its own.
    """
    groups: list[list[int]] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        padded = (len(groups[-1]) + 1) * lengths[place] if groups else token_budget + 1
        if padded <= token_budget and tokens + lengths[place] >= (1 - MOST_PADDING) * padded:
            groups[-1].append(place)
            tokens += lengths[place]
        else:
            groups.append([place])
            tokens = lengths[place]
    return groups
