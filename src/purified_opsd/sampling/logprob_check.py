"""What the trainer thinks of one token, to be held against what an engine thinks of it.

V rows of the head.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from purified_opsd.errors import ModelError
from purified_opsd.policy.model import Policy, base_of
from purified_opsd.policy.scoring import working_precision

from .sampler import Sampling

TEXT = "What is 17 + 25? Let me think step by step. "
GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=0, max_new_tokens=1)
TOP = 5
"""Likeliest next tokens that are compared."""
TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 0.3}
"""Nats in the mean, by the trainer's dtype: more than rounding makes, less than other weights do.
"""


@dataclass(frozen=True)
class LogProbCheck:
    """The policy's log-probs of the token after a fixed text."""

    prompt: list[int]
    log_prob_V: Float[Tensor, " V"]
    tolerance: float

    def distance(self, found: Mapping[int, float]) -> float:
        """Mean over an engine's likeliest tokens of the absolute difference; infinite where it
        knows tokens that we do not.
        """
        if not found or max(found) >= len(self.log_prob_V):
            return float("inf")
        return sum(
            abs(self.log_prob_V[token].item() - log_prob) for token, log_prob in found.items()
        ) / len(found)

    def check(self, found: Mapping[int, float], accusation: str) -> None:
        """Raises ModelError with the accusation where the engine's log-probs are too far away to be
        rounding.
        """
        distance = self.distance(found)
        if not distance <= self.tolerance:
            raise ModelError(
                f"{accusation}: its log-probs of the {TOP} likeliest tokens after a fixed text are "
                f"{distance:.2g} nats from the trainer's in the mean, and up to {self.tolerance} "
                "can be rounding. Start it with the settings of this run (`purified-opsd serve` "
                "does), or sample with --sampler hf."
            )


def logprob_check_of(policy: Policy) -> LogProbCheck:
    """Of the policy as it is: of the base where its adapter is off."""
    prompt = list(policy.tokenizer.encode(TEXT, add_special_tokens=False))
    model, training = policy.model, policy.model.training
    model.eval()
    with torch.no_grad(), working_precision(model):
        logits_1V = base_of(model)(
            input_ids=torch.tensor([prompt], device=model.device), use_cache=False, logits_to_keep=1
        ).logits
    model.train(training)
    return LogProbCheck(
        prompt, logits_1V[0, -1].float().log_softmax(-1).cpu(), TOLERANCE[policy.base.dtype]
    )
