"""A merged model is base + update, rounded once; and the share that rounding took is what it is
said to be.
"""

import pytest
import torch
from transformers import AutoModelForCausalLM

from purified_opsd.policy.export import export
from purified_opsd.policy.loading import load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model


@pytest.fixture(params=[1e-4, 0.3])
def adapter(request, tiny_model, tmp_path):
    """A saved adapter whose update is small or large, the updates, and the exact merged weights."""
    settings = Model(str(tiny_model), dtype="float32")
    policy = load_policy(
        settings,
        LoRA(rank=4, alpha=8, targets=("q_proj",)),
        load_tokenizer(settings),
        0,
        torch.device("cpu"),
    )
    for name, parameter in policy.adapter_parameters().items():
        if "lora_B" in name:
            parameter.data.normal_(std=request.param)
    policy.model.save_pretrained(str(tmp_path / "adapter"))
    layers = [layer.self_attn.q_proj for layer in policy.base.get_decoder().layers]
    updates = [
        2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight for layer in layers
    ]  # alpha/rank = 2
    exact = [
        layer.get_base_layer().weight.detach() + update.detach()
        for layer, update in zip(layers, updates, strict=True)
    ]
    return tmp_path / "adapter", [u.detach() for u in updates], exact


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_weights_and_what_rounding_took(adapter, tiny_model, tmp_path, dtype):
    folder, updates, exact = adapter
    lost = export(Model(str(tiny_model), dtype=dtype), folder, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert merged.dtype == getattr(torch, dtype)
    rounded = [weight.to(merged.dtype) for weight in exact]
    for layer, weight in zip(merged.get_decoder().layers, rounded, strict=True):
        torch.testing.assert_close(
            layer.self_attn.q_proj.weight,
            weight,
            rtol=2**-7 if dtype == "bfloat16" else 1e-6,
            atol=1e-7,
        )
    error = sum((r.float() - e).square().sum() for r, e in zip(rounded, exact, strict=True))
    size = sum(update.square().sum() for update in updates)
    assert lost == pytest.approx((error / size).sqrt().item(), rel=0.02, abs=1e-5)
    assert not (tmp_path / ".merged.tmp").exists()
