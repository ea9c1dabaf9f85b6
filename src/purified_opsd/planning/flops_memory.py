"""What a step costs in floating point operations and bytes, from sizes alone.

Tests hold both against measured steps.

Q prompt tokens of the question alone and T completion tokens of a sequence; S tokens of a
sequence; D hidden size; V rows of the head. A product of [a, b] and [b, c] counts 2abc operations.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from purified_opsd.distributed.sharding import FSDP2
from purified_opsd.objective.chunked_loss import ChunkSizes
from purified_opsd.objective.targets import PMITarget
from purified_opsd.training.config import TrainingConfig

from .model_dims import ModelDims

FLOAT32 = 4
TILE_RESULTS = 12
"""[tile, V] results that the formulas hold at once when nothing fuses them."""


class Lengths(NamedTuple):
    """Mean tokens of the prompts of the three contexts, and of a completion."""

    base: int
    teacher: int
    reference: int
    completion: int

    def context(self, name: str) -> int:
        """Tokens scored under a context, the completion's included."""
        prompts = {
            "base": self.base,
            "reference": self.reference,
            "teacher": self.teacher,
        }
        return prompts[name] + self.completion


def lengths_of(question: int, reference: int, completion: int) -> Lengths:
    """The lengths where prompts are little more than the texts in them."""
    return Lengths(question, question + reference, reference, completion)


@dataclass(frozen=True)
class SequenceFlops:
    """Floating point operations of one sequence in one step."""

    prefill: int
    decode: int
    frozen: int
    student: int
    loss: int

    @property
    def total(self) -> int:
        sampling = self.prefill + self.decode
        training = self.frozen + self.student + self.loss
        return sampling + training


def sequence_flops(config: TrainingConfig, dims: ModelDims, lengths: Lengths) -> SequenceFlops:
    """The operations of one sequence, part by part.

    The head runs over completion tokens only; attention is counted over its whole square, as
    PyTorch counts it.
    """
    Q = lengths.base
    T = lengths.completion
    body = 2 * dims.body_parameters
    adapter = 2 * dims.adapter_parameters(config.adapter)
    head = 2 * dims.head_parameters

    prefill = _forward_flops(dims, Q) + Q * adapter + head
    decode = (T - 1) * (body + adapter + head)
    decode += _decode_attention_flops(dims, Q, T)

    contexts = [lengths.context(name) for name in config.target.contexts]
    frozen = sum(_forward_flops(dims, S) for S in contexts)
    # Three or two projections forward, and the student's backward.
    projections = 4 if isinstance(config.target, PMITarget) else 3
    return SequenceFlops(
        prefill=prefill,
        decode=decode,
        frozen=frozen,
        student=_student_flops(config, dims, Q + T),
        loss=T * projections * head,
    )


def _forward_flops(dims: ModelDims, S: int) -> int:
    """Forward through the layers, without adapter and head."""
    body = 2 * dims.body_parameters
    return S * body + _attention_flops(dims, S)


def _student_flops(config: TrainingConfig, dims: ModelDims, S: int) -> int:
    """Forward, once more where activations are recomputed, and backward."""
    body = 2 * dims.body_parameters
    adapter = 2 * dims.adapter_parameters(config.adapter)
    forward = _forward_flops(dims, S) + S * adapter
    forwards = 2 if config.model.gradient_checkpointing else 1
    # Backward through a frozen weight: one product; through an adapter's weight or between two
    # activations: two.
    backward = S * (body + 2 * adapter)
    backward += 2 * _attention_flops(dims, S)
    return forwards * forward + backward


def _attention_flops(dims: ModelDims, S: int) -> int:
    """Two products of [S, S] a head and layer."""
    width = dims.heads * dims.head_dim
    return dims.layers * 4 * width * S**2


def _decode_attention_flops(dims: ModelDims, Q: int, T: int) -> int:
    """One query against every cached key, T − 1 times."""
    width = dims.heads * dims.head_dim
    keys = (T - 1) * (2 * Q + T) // 2
    return dims.layers * 4 * width * keys


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device.  Weights and adapter stay; the other three take turns."""

    weights: int
    adapter: int
    """Weights, gradient and AdamW's two moments, in float32."""
    student: int
    """Kept layer inputs of a micro-batch, and one layer computed anew and taken back."""
    loss: int
    """Kept layer inputs, the contexts' hidden states and the loss's buffers."""
    sampler: int
    """Keys and values of all rows and one step's logits, or the pass over the prompts."""

    @property
    def peak(self) -> int:
        staying = self.weights + self.adapter
        largest_in_turn = max(self.student, self.loss, self.sampler)
        return staying + largest_in_turn


def device_memory(
    config: TrainingConfig,
    dims: ModelDims,
    lengths: Lengths,
    micro_tokens: int,
    rows: ChunkSizes,
    value_bytes: int,
    processes: int = 1,
) -> DeviceMemory:
    """The memory of a device that works on `micro_tokens` tokens at once.

    Weights and activations take `value_bytes` bytes a value.
    """
    D = dims.hidden
    contexts = len(config.target.contexts)
    layer_inputs = value_bytes * micro_tokens * D * dims.layers
    layer = micro_tokens * layer_bytes(dims, value_bytes)

    # Completion tokens of the micro-batch, whose hidden states the loss reads.
    student_tokens = lengths.base + lengths.completion
    completion_share = lengths.completion / student_tokens
    N = max(1, round(micro_tokens * completion_share))
    states = (contexts + 1) * value_bytes * N * D
    float32_states = FLOAT32 * N * D
    kept = layer_inputs + states + float32_states
    return DeviceMemory(
        weights=weight_bytes(config, dims, processes, value_bytes),
        adapter=4 * FLOAT32 * dims.adapter_parameters(config.adapter),
        student=kept + layer,
        loss=kept + _loss_buffer_bytes(dims, contexts, rows, N),
        sampler=_sampler_bytes(config, dims, lengths, value_bytes),
    )


def _loss_buffer_bytes(dims: ModelDims, contexts: int, rows: ChunkSizes, N: int) -> int:
    """The buffers of V values a row: those of a chunk, and a tile's results."""
    chunk = min(rows.chunk, N)
    tile = min(rows.tile, chunk)
    chunk_rows = (1 + min(2, contexts)) * chunk
    tile_rows = TILE_RESULTS * tile
    return FLOAT32 * (chunk_rows + tile_rows) * dims.vocabulary


def weight_bytes(config: TrainingConfig, dims: ModelDims, processes: int, value_bytes: int) -> int:
    """The base's weights on one device.

    In shards, a device holds its share, the layer in use and the next one gathered, and the head
    while it is whole.
    """
    if not isinstance(config.sharding, FSDP2) or processes == 1:
        return value_bytes * dims.parameters
    sharded = dims.body_parameters
    if not dims.tied:
        sharded += 2 * dims.head_parameters
    own_share = math.ceil(sharded / processes)
    two_layers = 2 * dims.body_parameters // dims.layers
    gathered = two_layers + dims.head_parameters
    return value_bytes * (own_share + gathered)


def _sampler_bytes(
    config: TrainingConfig, dims: ModelDims, lengths: Lengths, value_bytes: int
) -> int:
    """The larger of reading the prompts and the last decoding step."""
    rows = config.sampling.batch_size
    # A token's key and value in one layer.
    token = value_bytes * 2 * dims.kv_heads * dims.head_dim

    layer_values = 3 * dims.hidden + 5 * dims.intermediate
    layer_states = value_bytes * layer_values
    prefill = rows * lengths.base * (token * dims.layers + layer_states)

    # One layer's keys and values are copied as they grow.
    layers = dims.layers + 1
    tokens = lengths.base + lengths.completion
    cache = rows * tokens * token * layers
    logit = value_bytes + 2 * FLOAT32
    logits = rows * dims.vocabulary * logit
    return max(prefill, cache + logits)


def layer_bytes(dims: ModelDims, value_bytes: int) -> int:
    """One token's share of a layer's forward pass, kept for backward, and of backward's gradients.

    Kept: both norms' inputs and outputs, queries, keys and values before and after their rotation,
    the attention's output, the MLP's four products; in the backward pass one gradient of the MLP's
    width and two of the hidden size.
    """
    queries = dims.heads * dims.head_dim
    keys = dims.kv_heads * dims.head_dim
    attention = 4 * queries + 4 * keys
    values = 6 * dims.hidden + attention + 5 * dims.intermediate
    return value_bytes * values
