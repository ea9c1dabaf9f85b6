"""Completions drawn from a target: what the target itself would write is its quickest check.

C contexts of one prompt, D hidden size, V rows of the head.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from peft import PeftModel
from torch import Tensor

from purified_opsd.objective.targets import Target
from purified_opsd.policy.decoding import DecodingBatch
from purified_opsd.policy.lm_head import ModelHead, decoder_of
from purified_opsd.policy.model import base_of, frozen
from purified_opsd.policy.scoring import working_precision
from purified_opsd.policy.turn_end import eos_ids

from .hf import draw, uniforms
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
        self.eos = set(eos_ids(base_of(model)))

    def generate(self, prompts: Sequence[Ids], seed: int) -> Completion:
        """Returns one completion, from the prompts of `target.contexts`, in that order.  The same
        random numbers decide as in `HFSampler`.
        """
        with frozen(self.model):
            return self._decode(prompts, seed)

    def _decode(self, prompts: Sequence[Ids], seed: int) -> Completion:
        uniform_T = uniforms(seed, self.sampling.max_new_tokens).to(self.model.device)
        ids: list[int] = []
        log_probs: list[float] = []
        batch = DecodingBatch(base_of(self.model))
        inputs = batch.prefill(prompts)
        for uniform_1 in uniform_T.split(1):
            log_target_1V = self._log_target(inputs)
            token_1, log_prob_1 = draw(log_target_1V, uniform_1, self.sampling)
            token = int(token_1)
            ids.append(token)
            log_probs.append(float(log_prob_1))
            if token in self.eos:
                return Completion(ids, log_probs, "stop")
            inputs = batch.step(token_1.expand(len(prompts)))
        return Completion(ids, log_probs, "length")

    def _log_target(self, inputs: Mapping[str, Any]) -> Float[Tensor, "1 V"]:
        """The target's log-probs of the next token."""
        decoder = decoder_of(base_of(self.model))
        with working_precision(self.model):
            output = decoder(**inputs)
        hidden_CD = output.last_hidden_state[:, -1]
        logits_CV = self.head(hidden_CD)
        log_prob_CV = logits_CV.log_softmax(-1)
        return self.target(*log_prob_CV.split(1))
