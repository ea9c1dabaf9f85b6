"""The weights, what they think of a completion, and what they write."""

from .adapters import load_adapted
from .batching import micro_batches
from .model import (
    GeneralHead,
    LoRA,
    Model,
    ModelError,
    Policy,
    base_of,
    context_length,
    frozen,
    load_base,
    load_policy,
    load_tokenizer,
)
from .sampling import Completion, HFSampler, Sampler, Sampling
from .scoring import completion_hidden, contexts_hidden
from .sharding import FSDP2, Layout, Replicated
from .target_sampling import TargetSampler

__all__ = [
    "FSDP2",
    "Completion",
    "GeneralHead",
    "HFSampler",
    "Layout",
    "LoRA",
    "Model",
    "ModelError",
    "Policy",
    "Replicated",
    "Sampler",
    "Sampling",
    "TargetSampler",
    "base_of",
    "completion_hidden",
    "context_length",
    "contexts_hidden",
    "frozen",
    "load_adapted",
    "load_base",
    "load_policy",
    "load_tokenizer",
    "micro_batches",
]
