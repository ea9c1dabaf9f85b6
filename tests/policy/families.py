"""Tiny random models of the families whose layers are more than attention and one MLP: mixtures of
experts, and hybrids of attention with convolutions, state spaces or linear attention.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
}
ROUTED = {"moe_intermediate_size": 24, "num_experts_per_tok": 2, "output_router_logits": True}
"""With the router's logits asked for, an auxiliary loss is computed, and must not count."""
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
GROUPED = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
DELTA_NET = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
MAMBA_2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}

EXPERTS: dict[str, dict[str, Any]] = {
    "qwen3_moe": {**ROUTED, "num_experts": 4, "head_dim": 8},
    "qwen2_moe": {**ROUTED, "num_experts": 4, "shared_expert_intermediate_size": 24},
    "mixtral": {**ROUTED, "num_local_experts": 4, "sliding_window": 6},
    "olmoe": {**ROUTED, "num_experts": 4},
    "gpt_oss": {
        **ROUTED,
        "num_local_experts": 4,
        "head_dim": 8,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "deepseek_v2": {**LATENT, **GROUPED, "moe_intermediate_size": 24, "num_experts_per_tok": 2},
    "deepseek_v3": {**LATENT, **GROUPED, "moe_intermediate_size": 24, "num_experts_per_tok": 2},
    "glm4_moe": {**GROUPED, "moe_intermediate_size": 24, "num_experts_per_tok": 2, "head_dim": 8},
    "granitemoe": {**ROUTED, "num_local_experts": 4, "logits_scaling": 2.0},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24},
    "minimax_m2": {**ROUTED, "num_local_experts": 4, "head_dim": 8},
    "llama4_text": {
        "num_local_experts": 4,
        "intermediate_size_mlp": 48,
        "interleave_moe_layer_step": 2,
        "head_dim": 8,
        "attention_chunk_size": 16,
        "no_rope_layers": [1, 0],
    },
}
HYBRIDS: dict[str, dict[str, Any]] = {
    "qwen3_next": {**ROUTED, **DELTA_NET, "num_experts": 4, "head_dim": 8},
    "olmo_hybrid": DELTA_NET,
    "falcon_h1": {**MAMBA_2, "mamba_d_ssm": 64, "head_dim": 8},
    "bamba": {**MAMBA_2, "attn_layer_indices": [1]},
    "granitemoehybrid": {
        **MAMBA_2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 48,
        "layer_types": ["mamba", "attention"],
    },
    "jamba": {
        "num_experts": 4,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
        "output_router_logits": True,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {
        "layer_types": ["conv", "full_attention"],
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "num_dense_layers": 1,
    },
}
REFUSED: dict[str, dict[str, Any]] = {
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1},
    "recurrent_gemma": {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8},
    "rwkv": {"attention_hidden_size": 32},
    "minimax": {
        "num_local_experts": 4,
        "head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "bert": {},
    "bart": {"d_model": 32, "decoder_attention_heads": 4, "decoder_layers": 2},
}


def save_tiny(folder: Path, family: str, own: dict[str, Any], tok: PreTrainedTokenizerBase) -> Path:
    """Writes a random model whose logits are about as spread out as a trained model's."""
    torch.manual_seed(0)
    ids = {"bos_token_id": None, "eos_token_id": tok.eos_token_id, "pad_token_id": 0}
    config = AutoConfig.for_model(family, **SMALL | own | ids, vocab_size=len(tok))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.get_output_embeddings().weight.data *= 20
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
