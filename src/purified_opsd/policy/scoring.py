"""Hidden states that predict the tokens of completions, under any prompt, and the micro-batches in
which they are computed.

B sequences, S padded length; N completion tokens, laid end to end; D hidden size.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor

from .lm_head import decoder_of
from .model import base_of

Ids = Sequence[int]

MOST_PADDING = 0.1
"""The share of a micro-batch's tokens that may be padding."""


def completion_hidden(
    model: PeftModel, prompts: Sequence[Ids], completions: Sequence[Ids]
) -> Float[Tensor, "N D"]:
    """The decoder's last hidden states [N, D], after its final norm, at the positions that predict
    each completion token: `head(hidden)` gives their logits.  Step 1 of the paper's Section 3.2.

    The batch is padded on the right only, so prompt and completion are never apart, and causal
    attention sees no padding without a mask, which would keep it from the kernel that leaves out
    what lies ahead.  Row n is the n-th token of the completions laid end to end.

    Raises ValueError where there are not as many prompts as completions.
    """
    pairs = list(zip(prompts, completions, strict=True))
    # 1. One padded batch.  Nothing is predicted after a completion's last token: it is left out.
    sequences = [[*prompt, *completion[:-1]] for prompt, completion in pairs]
    ids_BS = torch.tensor(_pad_right(sequences), device=model.device)
    # 2. One pass of the decoder.
    with working_precision(model):
        decoder = decoder_of(base_of(model))
        output = decoder(input_ids=ids_BS, use_cache=False)
    hidden_BSD = output.last_hidden_state
    # 3. A completion's first token is predicted at the prompt's last position.
    pieces: list[Tensor] = []
    for hidden_SD, (prompt, completion) in zip(hidden_BSD, pairs, strict=True):
        from_first_SD = hidden_SD[len(prompt) - 1 :]
        pieces.append(from_first_SD[: len(completion)])
    return torch.cat(pieces)


def _pad_right(sequences: Sequence[list[int]]) -> list[list[int]]:
    S = max(map(len, sequences))
    return [sequence + [0] * (S - len(sequence)) for sequence in sequences]


def contexts_hidden(
    model: PeftModel,
    prompts: Mapping[str, Sequence[Ids]],
    completions: Sequence[Ids],
    token_budget: int,
) -> dict[str, Float[Tensor, "N D"]]:
    """`completion_hidden` of the same completions under several contexts, by context.  Sequences of
    all contexts are batched together by length, without a graph.
    """
    # 1. Every completion under every context, one context after another.
    every_prompt = list(chain(*prompts.values()))
    every_completion = list(completions) * len(prompts)
    # 2. The states of each.
    with torch.no_grad():
        pieces = _hidden_pieces(model, every_prompt, every_completion, token_budget)
    # 3. Each context's, laid end to end.
    hidden: dict[str, Tensor] = {}
    for k, name in enumerate(prompts):
        first = k * len(completions)
        own = pieces[first : first + len(completions)]
        hidden[name] = torch.cat(own)
    return hidden


def _hidden_pieces(
    model: PeftModel, prompts: Sequence[Ids], completions: Sequence[Ids], token_budget: int
) -> list[Tensor]:
    """The hidden states of each completion, computed in micro-batches of like length."""
    pairs = zip(prompts, completions, strict=True)
    lengths = [len(prompt) + len(completion) - 1 for prompt, completion in pairs]
    pieces: list[Tensor] = [torch.empty(0)] * len(lengths)
    for indices in micro_batches(lengths, token_budget):
        batch_prompts = [prompts[i] for i in indices]
        batch_completions = [completions[i] for i in indices]
        hidden_ND = completion_hidden(model, batch_prompts, batch_completions)
        sizes = [len(completion) for completion in batch_completions]
        for index, piece in zip(indices, hidden_ND.split(sizes), strict=True):
            pieces[index] = piece
    return pieces


def working_precision(model: PeftModel) -> AbstractContextManager:
    """Matrix products in the base's dtype also where the adapter's float32 weights take part."""
    dtype = base_of(model).dtype
    if dtype == torch.bfloat16:
        return torch.autocast(model.device.type, dtype=dtype)
    return nullcontext()


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices of the sequences, shortest first, in micro-batches whose padded size (rows x longest)
    stays within the budget and whose padding stays within `MOST_PADDING` of it.

    Sequences of like length are together, so that little of what is computed is padding.  A
    sequence longer than the budget gets a micro-batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    batches: list[list[int]] = []
    batch: list[int] = []
    tokens = 0
    for index in order:
        length = lengths[index]
        # The sizes of the batch with this sequence in it, which is its longest.
        padded = (len(batch) + 1) * length
        filled = tokens + length
        fits = padded <= token_budget
        dense = filled >= (1 - MOST_PADDING) * padded
        if batch and fits and dense:
            batch.append(index)
            tokens = filled
        else:
            batch = [index]
            batches.append(batch)
            tokens = length
    return batches
