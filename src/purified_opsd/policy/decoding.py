"""Rows that are decoded side by side: padded on the left, with a cache that rows may leave.

B rows, S tokens of a row so far.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import LongTensor, Tensor
from transformers import DynamicCache, PreTrainedModel

Ids = Sequence[int]


class DecodingBatch:
    """What a model, or its decoder, is given of the rows in each pass: first their prompts, then
    one token a row.
    """

    def __init__(self, base: PreTrainedModel):
        self.device = base.device
        self.cache = DynamicCache(config=base.config)
        self.mask_BS = torch.ones(0, 0, dtype=torch.long, device=self.device)

    def prefill(self, prompts: Sequence[Ids]) -> dict[str, Any]:
        """The arguments of the pass that reads the prompts."""
        S = max(map(len, prompts))
        ids: list[list[int]] = []
        mask: list[list[int]] = []
        for prompt in prompts:
            padding = [0] * (S - len(prompt))
            ids.append([*padding, *prompt])
            mask.append(padding + [1] * len(prompt))
        self.mask_BS = torch.tensor(mask, device=self.device)
        return self._inputs(torch.tensor(ids, device=self.device))

    def step(self, token_B: Int[Tensor, " B"]) -> dict[str, Any]:
        """The arguments of the pass that reads one more token of each row."""
        one_B1 = self.mask_BS.new_ones(len(self.mask_BS), 1)
        self.mask_BS = torch.cat([self.mask_BS, one_B1], dim=1)
        return self._inputs(token_B[:, None])

    def select(self, index_B: Int[Tensor, " B"]) -> None:
        """Keeps these rows, in this order; one named twice is copied."""
        # What every kind of cache has, recurrent states included; batch_select_indices is not.
        self.cache.reorder_cache(cast(LongTensor, index_B))
        self.mask_BS = self.mask_BS[index_B]

    def _inputs(self, ids_BS: Int[Tensor, "B new"]) -> dict[str, Any]:
        new = ids_BS.shape[1]
        position_BS = (self.mask_BS.cumsum(-1) - 1).clamp(min=0)
        return {
            "input_ids": ids_BS,
            "attention_mask": self.mask_BS,
            "position_ids": position_BS[:, -new:],
            "past_key_values": self.cache,
            "use_cache": True,
        }
