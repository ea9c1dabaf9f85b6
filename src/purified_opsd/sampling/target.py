"""Completions of a target: what it would write itself, which is the quickest check of it.

C contexts of one prompt, S prompt tokens, V rows of the head.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache

from purified_opsd.objective.targets import Target
from purified_opsd.policy.lm_head import GeneralHead
from purified_opsd.policy.model import base_of, frozen
from purified_opsd.policy.scoring import working_precision

from .hf import draw, eos_ids, pad_left, positions, uniforms
from .sampler import Completion, Ids, Sampling


class TargetSampler:
    """Draws token by token from a target, all of its contexts advanced together by the token drawn.

    Logits are the head's, in float32, of the last hidden states, as in scoring: the target takes
    differences of them.
    """

    def __init__(self, model: PeftModel, target: Target, sampling: Sampling):
        self.model, self.target, self.sampling = model, target, sampling
        self.head, self.eos = GeneralHead(base_of(model)), set(eos_ids(model).tolist())

    def generate(self, prompts: Sequence[Ids], seed: int) -> Completion:
        """One completion, from the prompts of `target.contexts`, in that order.  The same numbers
        decide as in `HFSampler`.
        """
        with frozen(self.model):
            return self._decode(*pad_left(prompts, self.model.device), seed)

    def _decode(
        self, ids_CS: Int[Tensor, "C S"], mask_CS: Int[Tensor, "C S"], seed: int
    ) -> Completion:
        cache, tokens, log_probs = DynamicCache(config=base_of(self.model).config), [], []
        for uniform_1 in uniforms(seed, self.sampling.max_new_tokens).to(ids_CS.device).split(1):
            log_target_1V = self._log_target(ids_CS, mask_CS, cache)
            token_1, log_prob_1 = draw(log_target_1V, uniform_1, self.sampling)
            tokens.append(int(token_1))
            log_probs.append(float(log_prob_1))
            if tokens[-1] in self.eos:
                break
            ids_CS = token_1.expand(len(ids_CS), 1)
            mask_CS = torch.cat([mask_CS, mask_CS.new_ones(len(mask_CS), 1)], dim=1)
        return Completion(tokens, log_probs, "stop" if tokens[-1] in self.eos else "length")

    def _log_target(
        self, ids_CS: Tensor, mask_CS: Tensor, cache: DynamicCache
    ) -> Float[Tensor, "1 V"]:
        """Of the token that comes next."""
        with working_precision(self.model):
            hidden_CSD = (
                base_of(self.model)
                .get_decoder()(
                    input_ids=ids_CS,
                    attention_mask=mask_CS,
                    position_ids=positions(mask_CS, ids_CS.shape[1]),
                    past_key_values=cache,
                    use_cache=True,
                )
                .last_hidden_state
            )
        return self.target(*self.head(hidden_CSD[:, -1]).log_softmax(-1).split(1))
