"""Completions drawn in this process, by the very model that is trained.

B rows of a batch, U different prompts among them, S prompt tokens, T completion tokens, V rows of
the head, K candidates for the next token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache

from purified_opsd.policy.model import Model, Policy, base_of
from purified_opsd.policy.scoring import working_precision

from .sampler import Completion, Ids, Sampler, Sampling

NUCLEUS = 1024
"""Likeliest tokens among which a nucleus is looked for before the whole vocabulary is sorted."""

Drawn = tuple[Tensor, Tensor, Tensor]
"""One decoding step: the rows that are still going, their tokens and those tokens' log-probs."""


@dataclass(frozen=True)
class HF:
    """In this process, with the very model that is trained."""

    library: ClassVar[str] = "transformers"

    def open(
        self, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
    ) -> "HFSampler":
        return HFSampler(policy.model, sampling)


class HFSampler(Sampler):
    """Samples with the training model itself, adapter on, so there is nothing to sync."""

    def __init__(self, model: PeftModel, sampling: Sampling):
        self.model = model
        self.sampling = sampling
        self.eos = eos_ids(model).to(model.device)

    def sync(self, step: int) -> None:
        pass

    def generate(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """Draws in batches of `sampling.batch_size` prompts of like length."""
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        size = self.sampling.batch_size
        completions: dict[int, Completion] = {}
        training = self.model.training
        self.model.eval()
        with torch.no_grad(), working_precision(self.model):
            for first in range(0, len(order), size):
                indices = order[first : first + size]
                batch = self._batch([prompts[i] for i in indices], [seeds[i] for i in indices])
                completions |= zip(indices, batch, strict=True)
        self.model.train(training)
        return [completions[i] for i in range(len(prompts))]

    def _batch(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """Decodes one batch with a KV cache, which rows leave as soon as they have ended."""
        device, T = self.model.device, self.sampling.max_new_tokens
        # 1. All random numbers of every row, before any token is drawn.
        uniform_BT = torch.stack([uniforms(seed, T) for seed in seeds]).to(device)
        # 2. The prompts fill the cache.
        cache = DynamicCache(config=base_of(self.model).config)
        logits_BV, mask_BS = self._prefill(prompts, cache)
        row_B = torch.arange(len(prompts), device=device)
        drawn: list[Drawn] = []
        for t in range(T):
            # 3. One token a row.
            token_B, log_prob_B = draw(logits_BV, uniform_BT[row_B, t], self.sampling)
            drawn.append((row_B, token_B, log_prob_B))
            going_B = ~torch.isin(token_B, self.eos)
            if t + 1 == T or not going_B.any():
                break
            # 4. Rows that have ended leave the batch and its cache.
            if not going_B.all():
                cache.batch_select_indices(going_B.nonzero().squeeze(-1))
            row_B = row_B[going_B]
            # 5. The new tokens of the others give their next logits.
            mask_BS = torch.cat([mask_BS[going_B], mask_BS.new_ones(len(row_B), 1)], dim=1)
            logits_BV = self._next_logits(token_B[going_B, None], mask_BS, cache)
        # 6. The steps, which held all rows side by side, become one completion a row.
        return self._completions(len(prompts), drawn)

    def _prefill(
        self, prompts: Sequence[Ids], cache: DynamicCache
    ) -> tuple[Float[Tensor, "B V"], Int[Tensor, "B S"]]:
        """The logits after each prompt, and the prompts' mask.  A prompt that several rows share is
        computed once, and each of them gets a copy of its cache.
        """
        rows = [tuple(prompt) for prompt in prompts]
        index_of = {prompt: index for index, prompt in enumerate(dict.fromkeys(rows))}
        ids_US, mask_US = pad_left(list(index_of), self.model.device)
        logits_UV = self._next_logits(ids_US, mask_US, cache)
        index_B = torch.tensor([index_of[row] for row in rows], device=self.model.device)
        if len(index_of) < len(rows):
            cache.batch_select_indices(index_B)
        return logits_UV[index_B], mask_US[index_B]

    def _next_logits(
        self, ids_BS: Tensor, mask_BS: Tensor, cache: DynamicCache
    ) -> Float[Tensor, "B V"]:
        output = base_of(self.model)(
            input_ids=ids_BS,
            attention_mask=mask_BS,
            position_ids=positions(mask_BS, ids_BS.shape[1]),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()

    def _completions(self, B: int, drawn: Sequence[Drawn]) -> list[Completion]:
        ids: list[list[int]] = [[] for _ in range(B)]
        log_probs: list[list[float]] = [[] for _ in range(B)]
        for row_B, token_B, log_prob_B in drawn:
            step = zip(row_B.tolist(), token_B.tolist(), log_prob_B.tolist(), strict=True)
            for row, token, log_prob in step:
                ids[row].append(token)
                log_probs[row].append(log_prob)
        eos = set(self.eos.tolist())
        return [
            Completion(row_ids, row_log_probs, "stop" if row_ids[-1] in eos else "length")
            for row_ids, row_log_probs in zip(ids, log_probs, strict=True)
        ]


def draw(
    logits_BV: Float[Tensor, "B V"], uniform_B: Float[Tensor, " B"], sampling: Sampling
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """One token a row by inversion, and its log-prob under the untempered logits.

    Temperature, then top-k, then top-p leave candidates; drawn is the first of them at which the
    cumulative probability passes the row's uniform number.

    Raises FloatingPointError where a row's logits are no distribution.
    """
    normalizer_B = logits_BV.logsumexp(-1)
    finite_B = torch.isfinite(normalizer_B)
    if not finite_B.all():
        raise FloatingPointError(
            f"{int((~finite_B).sum())} of {len(logits_BV)} completions have logits that are NaN or "
            "infinite, so no token can be drawn: the student has diverged. Resume from an earlier "
            "checkpoint with a lower learning rate, or train in float32 with --model.dtype float32."
        )
    if sampling.temperature == 0:
        token_B = logits_BV.argmax(-1)
    else:
        token_B = _inversion(logits_BV, uniform_B, sampling)
    return token_B, logits_BV.gather(-1, token_B[:, None]).squeeze(-1) - normalizer_B


def _inversion(
    logits_BV: Float[Tensor, "B V"], uniform_B: Float[Tensor, " B"], sampling: Sampling
) -> Int[Tensor, " B"]:
    # 1. The candidates, likeliest first, and of them the least number that reaches top_p.
    probs_BK, tokens_BK = _candidates(logits_BV, sampling)
    probs_BK = probs_BK * (probs_BK.cumsum(-1) - probs_BK < sampling.top_p)
    # 2. The uniform number, stretched to what is left of the probability, names a candidate.
    cdf_BK = probs_BK.cumsum(-1)
    total_B1 = cdf_BK[:, -1:].contiguous()
    index_B1 = torch.searchsorted(cdf_BK, uniform_B[:, None] * total_B1, right=True)
    # 3. Where rounding would pass the end, the last one with any probability.
    last_B1 = torch.searchsorted(cdf_BK, total_B1)
    return tokens_BK.gather(-1, torch.minimum(index_B1, last_B1)).squeeze(-1)


def _candidates(
    logits_BV: Float[Tensor, "B V"], sampling: Sampling
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
    """Tempered probabilities of all tokens that top-k and top-p can leave, likeliest first where
    those ask for an order.
    """
    V = logits_BV.shape[-1]
    if sampling.top_k:
        values_BK, tokens_BK = logits_BV.topk(min(sampling.top_k, V))
        return (values_BK / sampling.temperature).softmax(-1), tokens_BK
    probs_BV = (logits_BV / sampling.temperature).softmax(-1)
    if sampling.top_p == 1:
        return probs_BV, torch.arange(V, device=logits_BV.device).expand_as(probs_BV)
    # A nucleus is hardly ever wider than NUCLEUS: sorting the whole vocabulary is the exception.
    probs_BK, tokens_BK = probs_BV.topk(min(NUCLEUS, V))
    if NUCLEUS < V and not (probs_BK.sum(-1) >= sampling.top_p).all():
        return probs_BV.topk(V)
    return probs_BK, tokens_BK


def uniforms(seed: int, T: int) -> Float[Tensor, " T"]:
    """All the random numbers of one row, a function of its seed."""
    return torch.rand(T, generator=torch.Generator().manual_seed(seed))


def positions(mask_BS: Int[Tensor, "B S"], new: int) -> Int[Tensor, "B new"]:
    """The positions of the last `new` tokens of rows that are padded on the left."""
    return (mask_BS.cumsum(-1) - 1).clamp(min=0)[:, -new:]


def pad_left(
    prompts: Sequence[Ids], device: torch.device
) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"]]:
    """Token ids, and a mask that is 0 where a row is padded."""
    S = max(map(len, prompts))
    ids = [[*[0] * (S - len(prompt)), *prompt] for prompt in prompts]
    mask = [[0] * (S - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def eos_ids(model: PeftModel) -> Int[Tensor, " E"]:
    """Every token that ends a completion, from the generation config, else the model's own."""
    base = base_of(model)
    eos = base.generation_config.eos_token_id if base.generation_config else None
    if eos is None:
        eos = base.config.get_text_config().eos_token_id
    if eos is None:
        eos = []
    elif isinstance(eos, int):
        eos = [eos]
    return torch.tensor(list(eos), dtype=torch.long)
