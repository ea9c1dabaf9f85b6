"""A merged model is base + update, rounded once; and the share that rounding took is what it is
said to be.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from purified_opsd.errors import ModelError
from purified_opsd.policy.export import TEXTS, export
from purified_opsd.policy.loading import load_base, load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model

from .folders import save
from .models import CONFIGS


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
    lost = export(Model(str(tiny_model), dtype=dtype), folder, tmp_path / "merged").rounding
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


def trained(settings: Model, targets: tuple[str, ...], folder: Path) -> Path:
    """Saves an adapter that is not zero, put on by PEFT itself, which refuses nothing."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(targets), task_type="CAUSAL_LM")
    model = get_peft_model(load_base(settings, torch.device("cpu")), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def centered_logits(model, settings: Model) -> torch.Tensor:
    pieces = []
    for text in TEXTS:
        ids = load_tokenizer(settings).encode(text, add_special_tokens=False)
        with torch.no_grad():
            pieces.append(model(input_ids=torch.tensor([ids])).logits[0].float())
    logits = torch.cat(pieces)
    return logits - logits.mean(-1, keepdim=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("targets", [("q_proj", "down_proj"), ("embed_tokens",)])
def test_the_difference_that_is_said_is_that_of_the_folder(tiny_model, tmp_path, dtype, targets):
    exact = Model(str(tiny_model), dtype="float32")
    folder = trained(exact, targets, tmp_path / "adapter")
    exported = export(replace(exact, dtype=dtype), folder, tmp_path / "merged")
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    before = centered_logits(PeftModel.from_pretrained(base, folder), exact)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    after = centered_logits(read, exact)
    assert exported.logits == pytest.approx((after - before).abs().max().item(), abs=1e-4)
    kl = torch.nn.functional.kl_div(
        after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="none"
    )
    assert exported.kl == pytest.approx(kl.sum(-1).mean().item(), abs=1e-5)
    assert exported.kl < 0.01 * exported.update_kl
    assert (exported.rounding < 1e-5) == (dtype == "float32")


@pytest.mark.parametrize("targets", [("embed_tokens",), ("q_proj", "embed_tokens")])
def test_an_update_of_the_embedding_that_is_the_head_is_not_merged(tiny_model, tmp_path, targets):
    config = Qwen3Config.from_pretrained(tiny_model, tie_word_embeddings=True)
    tied = save(AutoModelForCausalLM.from_config(config), tiny_model, tmp_path / "tied")
    settings = Model(str(tied), dtype="float32")
    folder = trained(settings, targets, tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"Merged into the base, the adapter has other logits"):
        export(settings, folder, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    assert not (tmp_path / ".merged.tmp").exists()


def test_a_folder_that_is_not_what_was_merged_gets_no_name(tiny_model, tmp_path, monkeypatch):
    """A model whose saving loses something, as one with a wrong mapping of names does."""
    settings = Model(str(tiny_model), dtype="float32")
    folder = trained(settings, ("q_proj",), tmp_path / "adapter")
    whole = Qwen3ForCausalLM.save_pretrained

    def lossy(model, path):
        model.model.norm.weight.data[0] = 9
        whole(model, path)
        model.model.norm.weight.data[0] = 1

    monkeypatch.setattr(Qwen3ForCausalLM, "save_pretrained", lossy)
    with pytest.raises(ModelError, match=r"Read from its folder again, the merged model has other"):
        export(settings, folder, tmp_path / "merged")
    assert list(tmp_path.glob("*merged*")) == []


@pytest.mark.parametrize("family", ["phi3", "gpt2"])
def test_layers_of_other_kinds_are_merged(tiny_model, tmp_path, family):
    config = CONFIGS[family]
    config.vocab_size = 260  # the tokenizer's
    base = save(AutoModelForCausalLM.from_config(config), tiny_model, tmp_path / family)
    settings = Model(str(base), dtype="float32")
    names = {"phi3": ("qkv_proj", "gate_up_proj"), "gpt2": ("c_attn", "c_proj")}
    folder = trained(settings, names[family], tmp_path / "adapter")
    exported = export(settings, folder, tmp_path / "merged")
    assert exported.kl < 1e-5 < exported.update_kl
