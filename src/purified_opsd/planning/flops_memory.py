"""What a step costs, in operations and bytes, from sizes alone.  Tests hold both against measured
steps.

Q question and T completion tokens of a sequence; S tokens of a sequence; D hidden size; V rows of
the head. A product of [a, b] and [b, c] counts 2abc operations.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from purified_opsd.distributed.fsdp import FSDP2
from purified_opsd.objective.chunked_loss import ChunkSizes
from purified_opsd.objective.targets import PMITarget
from purified_opsd.training.config import TrainingConfig

from .model_dims import ModelDims

FLOAT32 = 4
STRIP_RESULTS = 12
"""[tile, V] results that the formulas hold at once when nothing fuses them."""


class Lengths(NamedTuple):
    """Mean tokens of the three prompts and of a completion."""

    question: int
    teacher: int
    reference: int
    completion: int

    def context(self, name: str) -> int:
        """Tokens scored under a context, the completion's included."""
        prompt = {"base": self.question, "reference": self.reference, "teacher": self.teacher}
        return prompt[name] + self.completion


def lengths_of(question: int, reference: int, completion: int) -> Lengths:
    """Where the prompts are little more than the texts in them."""
    return Lengths(question, question + reference, reference, completion)


@dataclass(frozen=True)
class Operations:
    """Floating point operations of one sequence in one step."""

    prefill: int
    decode: int
    frozen: int
    student: int
    loss: int

    @property
    def total(self) -> int:
        return self.prefill + self.decode + self.frozen + self.student + self.loss


def operations(run: TrainingConfig, shape: ModelDims, lengths: Lengths) -> Operations:
    """The head runs over completion tokens only; attention is counted over its whole square, as
    PyTorch counts it.
    """
    Q, T = lengths.question, lengths.completion
    adapter = 2 * shape.adapter_parameters(run.adapter)
    head = 2 * shape.head_parameters

    def forward(S: int) -> int:
        return S * 2 * shape.body_parameters + _attention(shape, S)

    def with_adapter(S: int) -> int:
        return forward(S) + S * adapter

    projections = 4 if isinstance(run.target, PMITarget) else 3  # the last one goes back
    again = 1 if run.model.gradient_checkpointing else 0
    # Back through a frozen weight: one product; through an adapter's or between two activations:
    # two.
    back = (Q + T) * (2 * shape.body_parameters + 2 * adapter) + 2 * _attention(shape, Q + T)
    return Operations(
        prefill=with_adapter(Q) + head,
        decode=(T - 1) * (2 * shape.body_parameters + adapter + head)
        + _decode_attention(shape, Q, T),
        frozen=sum(forward(lengths.context(name)) for name in run.target.contexts),
        student=(1 + again) * with_adapter(Q + T) + back,
        loss=T * projections * head,
    )


def _attention(shape: ModelDims, S: int) -> int:
    """Two products of [S, S] a head and layer."""
    return shape.layers * 4 * shape.heads * shape.head_dim * S**2


def _decode_attention(shape: ModelDims, Q: int, T: int) -> int:
    """One query against every cached key, T − 1 times."""
    return shape.layers * 4 * shape.heads * shape.head_dim * ((T - 1) * (2 * Q + T) // 2)


@dataclass(frozen=True)
class Memory:
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
        return self.weights + self.adapter + max(self.student, self.loss, self.sampler)


def weight_bytes(run: TrainingConfig, shape: ModelDims, processes: int, element: int) -> int:
    """The base on one device.  In shards: a share, the layer in use and the next one gathered, and
    the head while it is whole.
    """
    if not isinstance(run.sharding, FSDP2) or processes == 1:
        return element * shape.parameters
    spread = shape.body_parameters + (0 if shape.tied else 2 * shape.head_parameters)
    gathered = 2 * shape.body_parameters // shape.layers + shape.head_parameters
    return element * (math.ceil(spread / processes) + gathered)


def memory(
    run: TrainingConfig,
    shape: ModelDims,
    lengths: Lengths,
    micro_tokens: int,
    rows: ChunkSizes,
    element: int,
    processes: int = 1,
) -> Memory:
    """Of a device that works on `micro_tokens` tokens at once, with `element` bytes a value of
    weights and activations.
    """
    D, V = shape.hidden, shape.vocabulary
    kept = element * micro_tokens * D * shape.layers
    share = lengths.completion / (lengths.question + lengths.completion)
    N = max(1, round(micro_tokens * share))
    chunk = min(rows.chunk, N)
    buffers = (1 + min(2, len(run.target.contexts))) * chunk + STRIP_RESULTS * min(
        rows.tile, chunk
    )
    states = (len(run.target.contexts) + 1) * element * N * D + FLOAT32 * N * D
    return Memory(
        weights=weight_bytes(run, shape, processes, element),
        adapter=4 * FLOAT32 * shape.adapter_parameters(run.adapter),
        student=kept + micro_tokens * layer_bytes(shape, element) + states,
        loss=kept + FLOAT32 * buffers * V + states,
        sampler=_sampler_bytes(run, shape, lengths, element),
    )


def _sampler_bytes(run: TrainingConfig, shape: ModelDims, lengths: Lengths, element: int) -> int:
    """The larger of reading the prompts and the last decoding step."""
    rows, token = (
        run.sampling.batch_size,
        element * 2 * shape.kv_heads * shape.head_dim,
    )  # a token's key and value in one layer
    prompts = rows * lengths.question
    reading = prompts * (
        token * shape.layers + element * (3 * shape.hidden + 5 * shape.intermediate)
    )
    cached = rows * (lengths.question + lengths.completion) * token
    logits = rows * shape.vocabulary * (element + 2 * FLOAT32)
    return max(
        reading, cached * (shape.layers + 1) + logits
    )  # one layer's keys and values are copied as they grow


def layer_bytes(shape: ModelDims, element: int) -> int:
    """A token's share of one layer's forward pass, kept for its way back, and of the gradients on
    that way.

    Kept: both norms' inputs and outputs, queries, keys and values before and after their rotation,
    the attention's output, the MLP's four products; on the way back one gradient of the MLP's width
    and two of the hidden size.
    """
    D, Q, KV = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return element * (6 * D + 4 * Q + 4 * KV + 5 * shape.intermediate)
