"""What can be told of shards by one process; tests/training/test_processes.py has two."""

from dataclasses import replace

import pytest
import torch

from purified_opsd.distributed.fsdp import ShardedLayout
from purified_opsd.distributed.sharding import FSDP2, Replicated
from purified_opsd.errors import ModelError
from purified_opsd.policy.lm_head import ModelHead
from purified_opsd.policy.loading import load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model

CPU = torch.device("cpu")


@pytest.fixture
def loaded(tiny_model):
    settings = Model(str(tiny_model), dtype="float32")
    return load_policy(settings, LoRA(rank=4, alpha=8), load_tokenizer(settings), 0, CPU)


@pytest.mark.parametrize("sharding", [Replicated(), FSDP2()])
def test_over_one_process_the_base_is_whole(loaded, sharding):
    before = loaded.fingerprint()
    layout = sharding.apply(loaded, CPU)
    with layout.synced_forwards(), layout.gathered_head():
        assert loaded.fingerprint() == before
    assert sharding.loading_device(torch.device("cuda:0")) == torch.device("cuda:0")


def test_a_head_that_is_not_plainly_linear_is_refused(loaded):
    general = replace(loaded, head=ModelHead(loaded.base))
    with pytest.raises(
        ModelError,
        match="Qwen3ForCausalLM cannot be sharded: it has not a head that is plainly linear. Train "
        "it with",
    ):
        ShardedLayout(general, CPU)


def test_a_model_without_marked_layers_is_refused(loaded, monkeypatch):
    monkeypatch.setattr(loaded.base.get_decoder(), "layers", torch.nn.ModuleList())
    with pytest.raises(
        ModelError,
        match="it has not layers that transformers marks as such. .*--sharding replicated",
    ):
        ShardedLayout(loaded, CPU)
