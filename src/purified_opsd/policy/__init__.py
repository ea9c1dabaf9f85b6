"""The weights, what they think of a completion, and what they write."""

from .adapters import load_adapted
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
from .sampling import Completion, HFSampler, OneByOne, Sampler, Sampling
from .sampling_server import VLLMServers
from .sampling_vllm import VLLM
from .scoring import completion_hidden, contexts_hidden
from .sharding import FSDP2, Layout, Replicated
from .target_sampling import TargetSampler

__all__ = [
    "FSDP2",
    "HF",
    "VLLM",
    "Completion",
    "Engine",
    "GeneralHead",
    "HFSampler",
    "Layout",
    "LoRA",
    "Model",
    "ModelError",
    "OneByOne",
    "Policy",
    "Replicated",
    "Sampler",
    "Sampling",
    "ServersLost",
    "TargetSampler",
    "VLLMServers",
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
    "saved_dtype",
]
