"""The trainer's log-probs of one token, to be compared with an engine's.

They tell whether the engine holds the weights that it should hold.  V rows of the head.
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
"""How many of the likeliest next tokens are compared."""
TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 0.3}
"""Mean difference in nats that can be rounding, by the trainer's dtype; other weights make more."""


@dataclass(frozen=True)
class LogProbCheck:
    """The policy's log-probs of the token after a fixed text."""

    prompt: list[int]
    log_prob_V: Float[Tensor, " V"]
    tolerance: float

    def mean_difference(self, top_log_probs: Mapping[int, float]) -> float:
        """The mean absolute difference over an engine's likeliest tokens; infinite where the engine
        knows tokens that the policy does not.
        """
        if not top_log_probs or max(top_log_probs) >= len(self.log_prob_V):
            return float("inf")
        differences = []
        for token, log_prob in top_log_probs.items():
            own = self.log_prob_V[token].item()
            differences.append(abs(own - log_prob))
        return sum(differences) / len(differences)

    def check(self, top_log_probs: Mapping[int, float], problem: str) -> None:
        """Raises ModelError, whose message begins with the problem, where the engine's log-probs
        are too far from the trainer's to be rounding.
        """
        difference = self.mean_difference(top_log_probs)
        if not difference <= self.tolerance:
            raise ModelError(
                f"{problem}: its log-probs of the {TOP} likeliest tokens after a fixed text are "
                f"{difference:.2g} nats from the trainer's in the mean, and up to {self.tolerance} "
                "can be rounding. Start it with the settings of this run (`purified-opsd serve` "
                "does), or sample with --sampler hf."
            )


def logprob_check_of(policy: Policy) -> LogProbCheck:
    """The check of the policy as it is: of the base where the adapter is off."""
    model = policy.model
    prompt = list(policy.tokenizer.encode(TEXT, add_special_tokens=False))
    ids_1S = torch.tensor([prompt], device=model.device)
    training = model.training
    model.eval()
    with torch.no_grad(), working_precision(model):
        base = base_of(model)
        output = base(input_ids=ids_1S, use_cache=False, logits_to_keep=1)
    model.train(training)
    logits_V = output.logits[0, -1].float()
    log_prob_V = logits_V.log_softmax(-1).cpu()
    tolerance = TOLERANCE[policy.base.dtype]
    return LogProbCheck(prompt, log_prob_V, tolerance)
