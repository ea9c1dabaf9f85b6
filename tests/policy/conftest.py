"""Small random models of the real families, with a head large enough that their distributions
differ.
"""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    Olmo3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "pad_token_id": 0,
}

FAMILIES: dict[str, PreTrainedConfig] = {
    "qwen2": Qwen2Config(**SMALL, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SMALL, head_dim=8),
    "olmo3": Olmo3Config(**SMALL, sliding_window=6),
    "llama": LlamaConfig(**SMALL),
    "gemma2": Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=3.0, sliding_window=6),
}


def build(family: str, dtype: torch.dtype = torch.float32):
    """A random causal LM whose logits are about as spread out as a trained model's."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family], dtype=dtype)
    model.get_output_embeddings().weight.data *= 20
    return model.eval()


def with_adapter(model):
    """A LoRA adapter that is not zero, so that student and base differ."""
    model = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture(params=list(FAMILIES))
def family(request):
    return request.param


@pytest.fixture
def student(family):
    return with_adapter(build(family))


@pytest.fixture
def qwen():
    return with_adapter(build("qwen3"))
