"""Completions drawn from a target: what the target itself would write is its quickest check.

C contexts of one prompt, S prompt tokens, D hidden size, V rows of the head.
"""

from collections.abc import Sequence

from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache

from purified_opsd.objective.targets import Target
from purified_opsd.policy.lm_head import ModelHead
from purified_opsd.policy.model import base_of, frozen
from purified_opsd.policy.scoring import working_precision

from .hf import draw, eos_ids, one_longer, pad_left, positions, uniforms
from .sampler import Completion, Ids, Sampling


class TargetSampler:
    """Draws token by token from a target; each drawn token advances all of the target's contexts.

    The logits are the head's, in float32, of the last hidden states, as in scoring: the target
    takes differences of them.
    """

    def __init__(self, model: PeftModel, target: Target, sampling: Sampling):
        self.model = model
        self.target = target
        self.sampling = sampling
        self.head = ModelHead(base_of(model))
        self.eos = set(eos_ids(model).tolist())

    def generate(self, prompts: Sequence[Ids], seed: int) -> Completion:
        """Returns one completion, from the prompts of `target.contexts`, in that order.  The same
        random numbers decide as in `HFSampler`.
        """
        ids_CS, mask_CS = pad_left(prompts, self.model.device)
        with frozen(self.model):
            return self._decode(ids_CS, mask_CS, seed)

    def _decode(
        self, ids_CS: Int[Tensor, "C S"], mask_CS: Int[Tensor, "C S"], seed: int
    ) -> Completion:
        cache = DynamicCache(config=base_of(self.model).config)
        uniform_T = uniforms(seed, self.sampling.max_new_tokens).to(ids_CS.device)
        ids: list[int] = []
        log_probs: list[float] = []
        for uniform_1 in uniform_T.split(1):
            log_target_1V = self._log_target(ids_CS, mask_CS, cache)
            token_1, log_prob_1 = draw(log_target_1V, uniform_1, self.sampling)
            token = int(token_1)
            ids.append(token)
            log_probs.append(float(log_prob_1))
            if token in self.eos:
                return Completion(ids, log_probs, "stop")
            # The cache holds all tokens before: only the new one is to be computed.
            C = len(ids_CS)
            ids_CS = token_1.expand(C, 1)
            mask_CS = one_longer(mask_CS)
        return Completion(ids, log_probs, "length")

    def _log_target(
        self, ids_CS: Tensor, mask_CS: Tensor, cache: DynamicCache
    ) -> Float[Tensor, "1 V"]:
        """The target's log-probs of the next token."""
        decoder = base_of(self.model).get_decoder()
        new = ids_CS.shape[1]
        with working_precision(self.model):
            output = decoder(
                input_ids=ids_CS,
                attention_mask=mask_CS,
                position_ids=positions(mask_CS, new),
                past_key_values=cache,
                use_cache=True,
            )
        hidden_CD = output.last_hidden_state[:, -1]
        logits_CV = self.head(hidden_CD)
        log_prob_CV = logits_CV.log_softmax(-1)
        return self.target(*log_prob_CV.split(1))
