"""The sizes of a dense decoder, from its configuration alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from purified_opsd.errors import ModelError
from purified_opsd.policy.model import ALL_LINEAR, LoRA, Model


@dataclass(frozen=True)
class ModelDims:
    """Widths and counts, and the numbers of parameters that follow from them."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    """Embedding and head are one matrix."""

    @property
    def linears(self) -> Mapping[str, tuple[int, int]]:
        """Inputs and outputs of a layer's linear maps, by the names that LoRA knows them by."""
        D, wide = self.hidden, self.intermediate
        Q, KV = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = {"q_proj": (D, Q), "k_proj": (D, KV), "v_proj": (D, KV), "o_proj": (Q, D)}
        return attention | {"gate_proj": (D, wide), "up_proj": (D, wide), "down_proj": (wide, D)}

    @property
    def body_parameters(self) -> int:
        """All layers' linear maps; norms and biases are left out (well below 0.1 %)."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears.values())

    @property
    def head_parameters(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.body_parameters + (1 if self.tied else 2) * self.head_parameters

    def adapter_parameters(self, adapter: LoRA) -> int:
        """The two matrices of each adapted linear map: [rank, inputs] and [outputs, rank]."""
        targets = adapter.targets
        if targets is None or targets == ALL_LINEAR:
            targets = tuple(self.linears)
        widths = sum(sum(self.linears[name]) for name in targets if name in self.linears)
        return self.layers * adapter.rank * widths


PUBLISHED: Mapping[str, ModelDims] = {
    "Qwen/Qwen3-8B": ModelDims(4096, 36, 32, 8, 128, 12_288, 151_936, tied=False),
    "Qwen/Qwen3-4B": ModelDims(2560, 36, 32, 8, 128, 9728, 151_936, tied=True),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": ModelDims(
        3584, 28, 28, 4, 128, 18_944, 152_064, tied=False
    ),
    "allenai/Olmo-3-7B-Think": ModelDims(4096, 32, 32, 32, 128, 11_008, 100_278, tied=False),
}
"""The recipes' models, so that they can be planned for without a download."""


def model_dims_of(model: Model) -> ModelDims:
    """Reads a model's sizes.

    Raises ModelError where the configuration cannot be read or is not that of a dense decoder.
    """
    if model.path in PUBLISHED:
        return PUBLISHED[model.path]
    from transformers import AutoConfig

    try:
        loaded = AutoConfig.from_pretrained(model.path, revision=model.revision)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The configuration of {model.path} cannot be read, so its sizes are not known. "
            "Give a hub id that can be reached or a folder with a config.json; known without "
            f"either: {', '.join(PUBLISHED)}."
        ) from error
    config = loaded.get_text_config()
    values = config.to_dict()
    has_experts = any("expert" in name and count for name, count in values.items())
    if has_experts or "intermediate_size" not in values:
        raise ModelError(
            f"{model.path} is a {config.model_type}: a plan knows dense decoders only, with no "
            "experts."
        )
    heads = config.num_attention_heads
    return ModelDims(
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=values.get("num_key_value_heads") or heads,
        head_dim=values.get("head_dim") or config.hidden_size // heads,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
        tied=bool(config.tie_word_embeddings),
    )
