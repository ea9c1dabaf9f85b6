"""One set of weights, two policies: the base with its LoRA adapter off, the student with it on.

`Model` and `LoRA` are the settings; loading.py makes a `Policy` of them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:  # settings are read without these, which take seconds
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .lm_head import ModelHead

FINGERPRINT_VALUES = 16
"""How many values of every tensor a fingerprint is made of."""


@dataclass(frozen=True)
class Model:
    """Which weights are used, and how they are loaded: any causal language model in Hugging Face's
    format.
    """

    short_form: ClassVar[tuple[str, ...]] = ("path", "revision")
    """`model: X` sets the first; the other, which described the former model, is as by default."""
    path: str
    """A hub id or a local folder in Hugging Face format, with safetensors weights."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; null: its main branch."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """`auto`: as the weights were saved."""
    attention: str | None = None
    """transformers' attn_implementation, such as flash_attention_2; null: its own choice."""
    trust_remote_code_of: str | None = None
    """Repeats `path` to let that model, and no other, run Python code of its own."""
    gradient_checkpointing: bool = True
    """Recompute activations on the way back, to save memory.  Source: the paper."""


ALL_LINEAR = ("all-linear",)
"""The targets in PEFT's word for every linear layer but the head."""


@dataclass(frozen=True)
class LoRA:
    """The adapter that is trained, in PEFT's terms; the defaults are the paper's and upstream's.

    Raises ValueError for a rank, alpha, dropout or targets with which there is no adapter.
    """

    rank: int = 64
    """Rank r of the two matrices.  Source: the paper."""
    alpha: int = 128
    """The update is scaled by alpha / rank.  Source: upstream."""
    targets: tuple[str, ...] | None = None
    """Names of linear layers, each of which the model must have, or `all-linear` alone; null: the
    linear layers of the model's attention and MLP, by the names that they have there.  Source:
    upstream's seven, q_proj to down_proj.
    """
    dropout: float = 0.0
    """Of the adapter's inputs, while training.  Source: upstream."""

    def __post_init__(self):
        if self.rank < 1 or self.alpha < 1 or not 0 <= self.dropout < 1 or self.targets == ():
            raise ValueError(
                "LoRA needs rank and alpha of at least 1, dropout in [0, 1) and a target, got "
                f"rank={self.rank}, alpha={self.alpha}, dropout={self.dropout}, "
                f"targets={self.targets}. The paper's setting is rank 64."
            )
        if self.targets and "all-linear" in self.targets and self.targets != ALL_LINEAR:
            raise ValueError(
                "adapter.targets says all-linear beside other names "
                f"({', '.join(self.targets)}). Say all-linear alone, or name the layers."
            )


@dataclass(frozen=True)
class Policy:
    """A loaded base with its adapter."""

    model: "PeftModel"
    tokenizer: "PreTrainedTokenizerBase"
    head: "nn.Linear | ModelHead"
    """From last hidden states to logits."""

    @property
    def base(self) -> "PreTrainedModel":
        return base_of(self.model)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name, in the order of the names."""
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        return dict(sorted(trained))

    def fingerprint(self) -> str:
        """Identifies the base's weights."""
        tensors = {}
        for name, tensor in sorted(self.base.state_dict().items()):
            if "lora_" not in name:
                tensors[name.replace(".base_layer", "")] = tensor
        return _fingerprint(tensors)

    def adapter_fingerprint(self) -> str:
        """Identifies what is trained, as it is now."""
        return _fingerprint(self.adapter_parameters())


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A digest of the names, the shapes and some evenly spaced values of every tensor."""
    digest = sha256()
    last = FINGERPRINT_VALUES - 1
    for name, tensor in tensors.items():
        flat = tensor.flatten()
        spaced = [(len(flat) - 1) * i // last for i in range(FINGERPRINT_VALUES)]
        values = flat[torch.tensor(spaced, device=flat.device)].float().cpu().tolist()
        digest.update(f"{name} {list(tensor.shape)} {values}\n".encode())
    return digest.hexdigest()


def base_of(model: "PeftModel") -> "PreTrainedModel":
    """The causal language model inside; its linear layers carry the adapter."""
    return cast("PreTrainedModel", model.get_base_model())


@contextmanager
def frozen(model: "PeftModel") -> Iterator[None]:
    """π_0, the frozen base of the paper's Section 3.2, while it is entered: the adapter off, no
    gradients, no dropout.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), model.disable_adapter():
            yield
    finally:
        model.train(training)
