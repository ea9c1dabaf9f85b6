"""Whether what is drawn can be scored: a model's two ways to the same logits, compared at load.

Scoring reads whole sequences, padded on the right, without a mask.  Drawing reads prompts that are
padded on the left, then a token at a time, with a cache that rows leave.  A model for which the two
differ would be trained on completions of another one, without an error.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from purified_opsd.errors import ModelError, first_line

from .decoding import DecodingBatch
from .model import Policy, base_of, frozen
from .scoring import completion_hidden, working_precision

TOLERANCE = {torch.float32: 0.002, torch.bfloat16: 0.2}
"""What rounding may change of centered logits, relative to their norm, by the model's dtype."""

FOREIGN = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What a model's own code raises where it cannot take what is passed to it."""

REASONS = (
    "the logits of a token change with the tokens after it: it is not a causal language model",
    "padding on the left of a prompt changes its logits, and prompts are drawn from side by side",
    "what came before a token is not in its cache, or not row by row, so no token can follow it",
)
"""What each of the three compared logits would be wrong by, in their order."""


def check_decoding(policy: Policy) -> None:
    """Raises ModelError where the base draws from other logits than those it is scored by.

    Takes three passes of at most ten tokens.
    """
    name = policy.base.name_or_path or type(policy.base).__name__
    try:
        with frozen(policy.model):
            scored_3V, drawn_3V = _two_ways(policy)
    except FOREIGN as error:
        raise ModelError(
            f"{name} ({type(policy.base).__name__}) cannot be sampled from here: with the cache of "
            f"transformers it ends in {type(error).__name__}: {first_line(error)} docs/models.md "
            "lists families that work."
        ) from error
    difference_3 = (drawn_3V - scored_3V).norm(dim=-1) / scored_3V.norm(dim=-1)
    tolerance = TOLERANCE[policy.base.dtype]
    for difference, reason in zip(difference_3.tolist(), REASONS, strict=True):
        if not difference <= tolerance:
            raise ModelError(
                f"{name} ({type(policy.base).__name__}) cannot be trained: {reason}. Its logits "
                f"are {difference:.1%} off those of the whole sequence alone, and {tolerance:.1%} "
                "could be rounding. docs/models.md lists families that work."
            )


def _two_ways(policy: Policy) -> tuple[Float[Tensor, "3 V"], Float[Tensor, "3 V"]]:
    """Centered logits as completions are scored, and as they are drawn: after a long prompt, after
    a short one, and after the short one's next token.
    """
    # 1. Some tokens, spread over the vocabulary.
    rows = policy.base.config.get_text_config().vocab_size
    a, b, c, d, e, f, g = (rows * k // 8 for k in range(1, 8))
    long, short, token = [a, b, c, d], [e, f], g
    # 2. As they are scored.  Of a completion of two tokens, the last is predicted and not read.
    hidden_4D = completion_hidden(policy.model, [long, short], [[token, token]] * 2)
    scored_4V = policy.head(hidden_4D)
    scored_3V = scored_4V[[0, 2, 3]]
    # 3. As they are drawn: the row of the long prompt leaves, and the other gets its next token.
    base = base_of(policy.model)
    batch = DecodingBatch(base)
    with working_precision(policy.model):
        prefilled_2V = base(**batch.prefill([long, short]), logits_to_keep=1).logits[:, -1]
        batch.select(torch.tensor([1], device=base.device))
        token_1 = torch.tensor([token], device=base.device)
        stepped_1V = base(**batch.step(token_1), logits_to_keep=1).logits[:, -1]
    drawn_3V = torch.cat([prefilled_2V, stepped_1V])
    return _centered(scored_3V), _centered(drawn_3V)


def _centered(logits_3V: Float[Tensor, "3 V"]) -> Float[Tensor, "3 V"]:
    wide_3V = logits_3V.float()
    return wide_3V - wide_3V.mean(-1, keepdim=True)
