"""Small random models of families whose layers are named or built in ways of their own."""

from transformers import (
    DeepseekV3Config,
    FalconConfig,
    Gemma3Config,
    GPT2Config,
    GPTNeoXConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from .conftest import SMALL

GPT = {"vocab_size": 97, "eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0}
TEXT = {**SMALL, "head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}

CONFIGS: dict[str, PreTrainedConfig] = {
    "qwen3": Qwen3Config(**SMALL, head_dim=8),
    "phi3": Phi3Config(**SMALL),
    "gpt-neox": GPTNeoXConfig(
        **GPT, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    ),
    "gpt2": GPT2Config(**GPT, n_embd=32, n_layer=2, n_head=4, n_positions=256),
    "falcon": FalconConfig(**GPT, hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
    "mixtral": MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2),
    "qwen3-moe": Qwen3MoeConfig(
        **SMALL,
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        mlp_only_layers=[0],
    ),
    "deepseek-v3": DeepseekV3Config(
        **{**SMALL, "num_key_value_heads": 4},
        moe_intermediate_size=24,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
    ),
    "gemma3-vision": Gemma3Config(text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4),
}
