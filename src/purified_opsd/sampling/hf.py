"""Completions drawn in this process, by the very model that is trained.

B rows of a batch, U different prompts among them, S prompt tokens, T completion tokens, V rows of
the head, K candidates for the next token.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor

from purified_opsd.policy.decoding import DecodingBatch
from purified_opsd.policy.model import base_of
from purified_opsd.policy.scoring import working_precision
from purified_opsd.policy.turn_end import eos_ids

from .drawing import report_drawn
from .sampler import Completion, Ids, Sampler, Sampling

NUCLEUS = 1024
"""Likeliest tokens among which a nucleus is looked for before the whole vocabulary is sorted."""

Drawn = tuple[Tensor, Tensor, Tensor]
"""One decoding step: the rows that are still going, their tokens and those tokens' log-probs."""


class HFSampler(Sampler):
    """Samples with the training model itself, adapter on, so there is nothing to sync.

    A completion has its token ids and their log-probs, in nats, under the untempered student, and
    is a function of prompt and seed (docs/sampling.md).
    """

    def __init__(self, model: PeftModel, sampling: Sampling):
        self.model = model
        self.sampling = sampling
        self.eos = torch.tensor(eos_ids(base_of(model)), device=model.device)

    def sync(self, step: int) -> None:
        pass

    def generate(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """Draws in batches of `sampling.batch_size` prompts of like length."""
        # 1. Shortest first; of prompts of one length, in the order given.
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        size = self.sampling.batch_size
        completions: dict[int, Completion] = {}
        training = self.model.training
        self.model.eval()
        # 2. One batch after another.
        with torch.no_grad(), working_precision(self.model):
            for first in range(0, len(order), size):
                indices = order[first : first + size]
                batch_prompts = [prompts[i] for i in indices]
                batch_seeds = [seeds[i] for i in indices]
                batch = self._batch(batch_prompts, batch_seeds)
                completions |= zip(indices, batch, strict=True)
        # 3. Back in the order given.
        self.model.train(training)
        return [completions[i] for i in range(len(prompts))]

    def _batch(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """Decodes one batch with a cache, which rows leave as soon as they have ended."""
        device = self.model.device
        T = self.sampling.max_new_tokens
        # 1. All random numbers of every row, before any token is drawn.
        uniform_BT = torch.stack([uniforms(seed, T) for seed in seeds]).to(device)
        # 2. The prompts fill the cache.
        batch = DecodingBatch(base_of(self.model))
        logits_BV = self._prefill(batch, prompts)
        row_B = torch.arange(len(prompts), device=device)
        drawn: list[Drawn] = []
        for t in range(T):
            # 3. One token a row.
            uniform_B = uniform_BT[row_B, t]
            token_B, log_prob_B = draw(logits_BV, uniform_B, self.sampling)
            drawn.append((row_B, token_B, log_prob_B))
            going_B = ~torch.isin(token_B, self.eos)
            if t + 1 == T or not going_B.any():
                report_drawn(len(token_B), ended=len(token_B))
                break
            # 4. Rows that have ended leave the batch and its cache.
            if not going_B.all():
                batch.select(going_B.nonzero().squeeze(-1))
            row_B = row_B[going_B]
            report_drawn(len(token_B), ended=len(token_B) - len(row_B))
            # 5. The new tokens of the others give their next logits.
            logits_BV = self._next_logits(batch.step(token_B[going_B]))
        # 6. The steps, which held all rows side by side, become one completion a row.
        return self._completions(len(prompts), drawn)

    def _prefill(self, batch: DecodingBatch, prompts: Sequence[Ids]) -> Float[Tensor, "B V"]:
        """The logits after each prompt.  A prompt that several rows share is computed once, and
        each of them gets a copy of its cache.
        """
        # 1. The different prompts, in the order in which they first come.
        rows = [tuple(prompt) for prompt in prompts]
        different = list(dict.fromkeys(rows))
        # 2. One pass over those.
        logits_UV = self._next_logits(batch.prefill(different))
        # 3. Every row gets what belongs to its prompt.
        index_of = {prompt: index for index, prompt in enumerate(different)}
        index_B = torch.tensor([index_of[row] for row in rows], device=self.model.device)
        if len(different) < len(rows):
            batch.select(index_B)
        return logits_UV[index_B]

    def _next_logits(self, inputs: Mapping[str, Any]) -> Float[Tensor, "B V"]:
        output = base_of(self.model)(**inputs, logits_to_keep=1)
        return output.logits[:, -1].float()

    def _completions(self, B: int, drawn: Sequence[Drawn]) -> list[Completion]:
        ids: list[list[int]] = [[] for _ in range(B)]
        log_probs: list[list[float]] = [[] for _ in range(B)]
        for row_B, token_B, log_prob_B in drawn:
            rows = row_B.tolist()
            tokens = token_B.tolist()
            step_log_probs = log_prob_B.tolist()
            for row, token, log_prob in zip(rows, tokens, step_log_probs, strict=True):
                ids[row].append(token)
                log_probs[row].append(log_prob)
        eos = set(self.eos.tolist())
        completions = []
        for row_ids, row_log_probs in zip(ids, log_probs, strict=True):
            finish = "stop" if row_ids[-1] in eos else "length"
            completions.append(Completion(row_ids, row_log_probs, finish))
        return completions


def draw(
    logits_BV: Float[Tensor, "B V"], uniform_B: Float[Tensor, " B"], sampling: Sampling
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """One token a row by inversion, and its log-prob under the untempered logits.

    Temperature, then top-k, then top-p leave candidates; drawn is the first of them at which the
    cumulative probability passes the row's uniform number.

    Raises FloatingPointError where a row's logits are no distribution.
    """
    normalizer_B = logits_BV.logsumexp(-1)
    _refuse_infinite(normalizer_B)
    if sampling.temperature == 0:
        token_B = logits_BV.argmax(-1)
    else:
        token_B = _inversion(logits_BV, uniform_B, sampling)
    logit_B = logits_BV.gather(-1, token_B[:, None]).squeeze(-1)
    return token_B, logit_B - normalizer_B


def _refuse_infinite(normalizer_B: Float[Tensor, " B"]) -> None:
    finite_B = torch.isfinite(normalizer_B)
    if finite_B.all():
        return
    bad = int((~finite_B).sum())
    raise FloatingPointError(
        f"{bad} of {len(normalizer_B)} completions have logits that are NaN or "
        "infinite, so no token can be drawn: the student has diverged. Resume from the last "
        "checkpoint with a lower learning rate (--optimizer.learning-rate 1e-6 --allow-changes), "
        "or start a new run in float32 (--model.dtype float32)."
    )


def _inversion(
    logits_BV: Float[Tensor, "B V"], uniform_B: Float[Tensor, " B"], sampling: Sampling
) -> Int[Tensor, " B"]:
    # 1. The candidates, likeliest first, and of them the least number that reaches top_p.
    probs_BK, tokens_BK = _candidates(logits_BV, sampling)
    before_BK = probs_BK.cumsum(-1) - probs_BK
    probs_BK = probs_BK * (before_BK < sampling.top_p)
    # 2. The uniform number, stretched to what is left of the probability, names a candidate.
    cdf_BK = probs_BK.cumsum(-1)
    total_B1 = cdf_BK[:, -1:].contiguous()
    aim_B1 = uniform_B[:, None] * total_B1
    index_B1 = torch.searchsorted(cdf_BK, aim_B1, right=True)
    # 3. Where rounding would pass the end, the last one with any probability.
    last_B1 = torch.searchsorted(cdf_BK, total_B1)
    index_B1 = torch.minimum(index_B1, last_B1)
    return tokens_BK.gather(-1, index_B1).squeeze(-1)


def _candidates(
    logits_BV: Float[Tensor, "B V"], sampling: Sampling
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
    """Tempered probabilities of all tokens that top-k and top-p can leave, likeliest first where
    those ask for an order.
    """
    V = logits_BV.shape[-1]
    # 1. Top-k: the softmax is over what it leaves.
    if sampling.top_k:
        K = min(sampling.top_k, V)
        logits_BK, tokens_BK = logits_BV.topk(K)
        probs_BK = (logits_BK / sampling.temperature).softmax(-1)
        return probs_BK, tokens_BK
    # 2. Neither: the whole vocabulary, unsorted.
    probs_BV = (logits_BV / sampling.temperature).softmax(-1)
    if sampling.top_p == 1:
        token_V = torch.arange(V, device=logits_BV.device)
        return probs_BV, token_V.expand_as(probs_BV)
    # 3. Top-p.  A nucleus is hardly ever wider than NUCLEUS: sorting the whole vocabulary is the
    #    exception.
    K = min(NUCLEUS, V)
    probs_BK, tokens_BK = probs_BV.topk(K)
    reached_B = probs_BK.sum(-1) >= sampling.top_p
    if K < V and not reached_B.all():
        return probs_BV.topk(V)
    return probs_BK, tokens_BK


def uniforms(seed: int, T: int) -> Float[Tensor, " T"]:
    """All the random numbers of one row, a function of its seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(T, generator=generator)
