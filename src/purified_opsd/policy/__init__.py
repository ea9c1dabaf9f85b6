"""The weights, what they think of a completion, and what they write."""

from .batching import micro_batches
from .engines import HF, Engine
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
    saved_dtype,
)
from .rounds import ServersLost
from .sampling import Completion, HFSampler, Sampler, Sampling
from .sampling_server import VLLMServers
from .sampling_vllm import VLLM
from .scoring import completion_hidden, contexts_hidden

__all__ = [
    "HF",
    "VLLM",
    "Completion",
    "Engine",
    "GeneralHead",
    "HFSampler",
    "LoRA",
    "Model",
    "ModelError",
    "Policy",
    "Sampler",
    "Sampling",
    "ServersLost",
    "VLLMServers",
    "base_of",
    "completion_hidden",
    "context_length",
    "contexts_hidden",
    "frozen",
    "load_base",
    "load_policy",
    "load_tokenizer",
    "micro_batches",
    "saved_dtype",
]
