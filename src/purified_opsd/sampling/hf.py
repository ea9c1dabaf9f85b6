"""Where completions are drawn: what a run can name under `sampler`.

Completions of the student: token ids in, token ids out, with the log-prob of each sampled token.

B rows of a batch, S prompt tokens, T completion tokens, V rows of the head.
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

from .sampler import Completion, Ids, Sampling

NUCLEUS = 1024
"""Likeliest tokens among which a nucleus is looked for before the whole vocabulary is sorted."""


class HFSampler:
    """Samples with the training model itself, adapter on, so there is nothing to sync."""

    def __init__(self, model: PeftModel, sampling: Sampling):
        self.model, self.sampling = model, sampling
        self.eos = eos_ids(model).to(model.device)

    def sync(self, step: int) -> None:
        pass

    def generate(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """Batches of `sampling.batch_size` prompts of like length."""
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        done: dict[int, Completion] = {}
        training = self.model.training
        self.model.eval()
        with torch.no_grad(), working_precision(self.model):
            for first in range(0, len(order), self.sampling.batch_size):
                group = order[first : first + self.sampling.batch_size]
                done |= zip(
                    group,
                    self._batch([prompts[i] for i in group], [seeds[i] for i in group]),
                    strict=True,
                )
        self.model.train(training)
        return [done[i] for i in range(len(prompts))]

    def _batch(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> list[Completion]:
        """One batch with a KV cache; a prompt that rows share is read once, and a row leaves as
        soon as it has ended.
        """
        device, T = self.model.device, self.sampling.max_new_tokens
        uniform_BT = torch.stack([uniforms(seed, T) for seed in seeds]).to(device)
        cache = DynamicCache(config=base_of(self.model).config)
        logits_BV, mask_BS = self._read(prompts, cache)
        alive_B = torch.arange(len(prompts), device=device)
        steps: list[tuple[Tensor, Tensor, Tensor]] = []
        for t in range(T):
            token_B, log_prob_B = draw(logits_BV, uniform_BT[alive_B, t], self.sampling)
            steps.append((alive_B, token_B, log_prob_B))
            going_B = ~torch.isin(token_B, self.eos)
            if t + 1 == T or not going_B.any():
                break
            if not going_B.all():
                cache.batch_select_indices(going_B.nonzero().squeeze(-1))
            alive_B = alive_B[going_B]
            mask_BS = torch.cat([mask_BS[going_B], mask_BS.new_ones(len(alive_B), 1)], dim=1)
            logits_BV = self._next_logits(token_B[going_B, None], mask_BS, cache)
        return self._completions(len(prompts), steps)

    def _read(
        self, prompts: Sequence[Ids], cache: DynamicCache
    ) -> tuple[Float[Tensor, "B V"], Int[Tensor, "B S"]]:
        """What follows each prompt, and the prompts' mask; equal prompts are computed once and
        share what was computed.
        """
        rows = [tuple(prompt) for prompt in prompts]
        place_of = {prompt: place for place, prompt in enumerate(dict.fromkeys(rows))}
        ids_US, mask_US = pad_left(list(place_of), self.model.device)
        logits_UV = self._next_logits(ids_US, mask_US, cache)
        place_B = torch.tensor([place_of[row] for row in rows], device=self.model.device)
        if len(place_of) < len(rows):
            cache.batch_select_indices(place_B)
        return logits_UV[place_B], mask_US[place_B]

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

    def _completions(self, B: int, steps: list[tuple[Tensor, Tensor, Tensor]]) -> list[Completion]:
        ids: list[list[int]] = [[] for _ in range(B)]
        log_probs: list[list[float]] = [[] for _ in range(B)]
        for alive_B, token_B, log_prob_B in steps:
            for row, token, log_prob in zip(
                alive_B.tolist(), token_B.tolist(), log_prob_B.tolist(), strict=True
            ):
                ids[row].append(token)
                log_probs[row].append(log_prob)
        eos = set(self.eos.tolist())
        return [Completion(i, p, ended=i[-1] in eos) for i, p in zip(ids, log_probs, strict=True)]


def draw(
    logits_BV: Float[Tensor, "B V"], uniform_B: Float[Tensor, " B"], sampling: Sampling
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """One token a row by inversion: the first candidate at which the cumulative probability passes
    the row's uniform number. Temperature, then top-k, then top-p.  Also its log-prob under the
    untempered logits.

    Raises FloatingPointError where a row's logits are no distribution.
    """
    normalizer_B = logits_BV.logsumexp(-1)
    if not torch.isfinite(normalizer_B).all():
        raise FloatingPointError(
            f"{int((~torch.isfinite(normalizer_B)).sum())} of {len(logits_BV)} completions have "
            "logits that are NaN or infinite, so no token can be drawn: the student has diverged. "
            "Resume from an earlier checkpoint with a lower learning rate, or train in float32 "
            "with --model.dtype float32."
        )
    if sampling.temperature == 0:
        token_B = logits_BV.argmax(-1)
    else:
        probs_BK, tokens_BK = _candidates(logits_BV, sampling)
        probs_BK = probs_BK * (probs_BK.cumsum(-1) - probs_BK < sampling.top_p)
        cdf_BK = probs_BK.cumsum(-1)
        total_B1 = cdf_BK[:, -1:].contiguous()
        place_B1 = torch.searchsorted(cdf_BK, uniform_B[:, None] * total_B1, right=True)
        last_B1 = torch.searchsorted(cdf_BK, total_B1)  # where rounding would pass the end
        token_B = tokens_BK.gather(-1, torch.minimum(place_B1, last_B1)).squeeze(-1)
    return token_B, logits_BV.gather(-1, token_B[:, None]).squeeze(-1) - normalizer_B


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
    for K in (
        NUCLEUS,
        V,
        # a nucleus is hardly ever wider than the first: sorting the whole vocabulary is the
        # exception
    ):
        probs_BK, tokens_BK = probs_BV.topk(min(K, V))
        if K >= V or (probs_BK.sum(-1) >= sampling.top_p).all():
            break
    return probs_BK, tokens_BK


def uniforms(seed: int, T: int) -> Float[Tensor, " T"]:
    """All the random numbers of one row, a function of its seed."""
    return torch.rand(T, generator=torch.Generator().manual_seed(seed))


def positions(mask_BS: Int[Tensor, "B S"], new: int) -> Int[Tensor, "B new"]:
    """Of the last `new` tokens of rows that are padded on the left."""
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
    found = base.generation_config.eos_token_id if base.generation_config else None
    if found is None:
        found = base.config.get_text_config().eos_token_id
    return torch.tensor(
        [] if found is None else [found] if isinstance(found, int) else list(found),
        dtype=torch.long,
    )


@dataclass(frozen=True)
class HF:
    """In this process, with the very model that is trained."""

    kind: ClassVar[str] = "hf"
    library: ClassVar[str] = "transformers"

    def open(
        self, model: Model, policy: Policy, sampling: Sampling, longest_prompt: int
    ) -> HFSampler:
        return HFSampler(policy.model, sampling)
