"""Whatever dropout a model's config asks for, only the adapter's own is ever active."""

import shutil

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MixtralConfig,
    Olmo3Config,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    Qwen3Config,
)

from purified_opsd.errors import ModelError
from purified_opsd.policy.dropout import silence_dropout
from purified_opsd.policy.loading import load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model

from .conftest import SMALL
from .folders import edit_json
from .models import GPT

SIZES = {**GPT, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}

RANDOM = {
    "qwen3": Qwen3Config(**SMALL, head_dim=8, attention_dropout=0.5),
    "llama": LlamaConfig(**SMALL, attention_dropout=0.5),
    "olmo3": Olmo3Config(**SMALL, attention_dropout=0.5),
    "granite": GraniteConfig(**SMALL, attention_dropout=0.5),
    "phi3": Phi3Config(**SMALL, resid_pdrop=0.5, embd_pdrop=0.5, attention_dropout=0.5),
    "phi": PhiConfig(**SMALL, resid_pdrop=0.5, embd_pdrop=0.5, attention_dropout=0.5),
    "mixtral": MixtralConfig(**SMALL, attention_dropout=0.5, router_jitter_noise=0.5),
    "gpt2": GPT2Config(
        **GPT, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5
    ),
    "gpt-neox": GPTNeoXConfig(
        **SIZES, intermediate_size=48, hidden_dropout=0.5, attention_dropout=0.5
    ),
    "falcon": FalconConfig(**SIZES, hidden_dropout=0.5, attention_dropout=0.5),
    "bloom": BloomConfig(**SIZES, hidden_dropout=0.5, attention_dropout=0.5),
    "opt": OPTConfig(
        **SIZES,
        ffn_dim=48,
        word_embed_proj_dim=32,
        dropout=0.5,
        attention_dropout=0.5,
        activation_dropout=0.5,
        layerdrop=0.5,
    ),
}


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("family", list(RANDOM))
def test_training_mode_computes_what_evaluation_mode_does(family):
    base = AutoModelForCausalLM.from_config(RANDOM[family]).eval()
    ids = torch.arange(5, 45).view(2, 20)
    expected = logits(base, ids)
    assert not torch.allclose(logits(base.train(), ids), expected, atol=1e-4)
    silence_dropout(base, family)
    for _ in range(3):
        torch.testing.assert_close(logits(base.train(), ids), expected)


def test_the_student_of_a_model_with_dropout_is_the_one_it_samples_from(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "dropout")
    edit_json(folder / "config.json", attention_dropout=0.5)
    model = Model(str(folder))
    policy = load_policy(model, LoRA(4, 8), load_tokenizer(model), 0, torch.device("cpu"))
    ids = torch.arange(5, 45)[None]
    assert torch.equal(
        logits(policy.model.train(), ids),
        logits(policy.model.eval(), ids),
    )


def test_the_adapters_dropout_is_active_in_training_alone(tiny_model):
    model = Model(str(tiny_model))
    adapter = LoRA(4, 8, dropout=0.5)
    policy = load_policy(model, adapter, load_tokenizer(model), 0, torch.device("cpu"))
    for name, parameter in policy.adapter_parameters().items():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    ids = torch.arange(5, 45)[None]
    student = policy.model.train()
    assert not torch.equal(logits(student, ids), logits(student, ids))
    assert torch.equal(logits(student.eval(), ids), logits(student, ids))


def test_a_randomness_under_an_unknown_name_is_refused():
    class Noisy(nn.Module):
        def __init__(self, mlp):
            super().__init__()
            self.mlp = mlp

        def forward(self, x):
            noise = torch.rand_like(x) if self.training else 0
            return self.mlp(x) + noise

    base = AutoModelForCausalLM.from_config(Qwen3Config(**SMALL, head_dim=8)).eval()
    base.model.layers[0].mlp = Noisy(base.model.layers[0].mlp)
    with pytest.raises(ModelError, match=r"mine computes something else in training mode"):
        silence_dropout(base, "mine")
