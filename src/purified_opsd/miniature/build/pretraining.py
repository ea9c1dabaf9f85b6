"""Trains the miniature's weights from nothing on one or two processor cores."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from .documents import Document, document
from .muon import Muon
from .tokenizer import END, PADDING, token_id

IGNORED = -100


@dataclass(frozen=True)
class Pretraining:
    """Settings of one pre-training run. Small batches learn more per minute than large ones."""

    seed: int = 0
    steps: int = 3000
    documents_per_step: int = 32
    micro_batches: int = 4
    learning_rate: float = 3e-3
    warmup_steps: int = 30
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    report_every: int = 50

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to zero."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Progress:
    """What stands on one progress line."""

    step: int
    steps: int
    loss: float
    """Mean over completion tokens since the last line, in nats."""
    tokens: int
    """Completion and prompt tokens read so far."""
    seconds: float


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """An untrained Qwen3 of 0.9 M parameters."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=token_id(tokenizer, END),
        pad_token_id=token_id(tokenizer, PADDING),
    )
    return Qwen3ForCausalLM(config)


def pretrain(
    tokenizer: PreTrainedTokenizerFast, settings: Pretraining, report: Callable[[Progress], None]
) -> Qwen3ForCausalLM:
    """Trains a new model; calls `report` every `report_every` steps and at the end."""
    model = new_model(tokenizer, settings.seed).train()
    optimizers = _optimizers(model, settings)
    padding = token_id(tokenizer, PADDING)
    losses, tokens, started = [], 0, time.monotonic()
    for step in range(settings.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate_at(step)
        batches = list(_micro_batches(tokenizer, settings, step))
        supervised = sum(int((labels != IGNORED).sum()) for _, labels in batches)
        parts = [_backward(model, inputs, labels, supervised) for inputs, labels in batches]
        losses.append(sum(parts))
        tokens += sum(int((inputs != padding).sum()) for inputs, _ in batches)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if (step + 1) % settings.report_every == 0 or step + 1 == settings.steps:
            mean, seconds = sum(losses) / len(losses), time.monotonic() - started
            report(Progress(step + 1, settings.steps, mean, tokens, seconds))
            losses.clear()
    return model.eval()


def _optimizers(model: Qwen3ForCausalLM, settings: Pretraining) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW without weight decay for the embedding and the norms."""
    matrices = [parameter for parameter in model.model.layers.parameters() if parameter.ndim == 2]
    matrix_ids = set(map(id, matrices))
    others = [parameter for parameter in model.parameters() if id(parameter) not in matrix_ids]
    return [
        Muon(matrices, settings.learning_rate, weight_decay=settings.weight_decay),
        torch.optim.AdamW(
            others, settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        ),
    ]


def _micro_batches(
    tokenizer: PreTrainedTokenizerFast, settings: Pretraining, step: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Input ids and labels of the step's documents, right-padded.

    The documents are sorted by length, so that little of a batch is padding.
    """
    start = step * settings.documents_per_step
    indices = range(start, start + settings.documents_per_step)
    documents = [document(settings.seed, index) for index in indices]
    encoded = sorted(encode_documents(tokenizer, documents), key=lambda pair: len(pair[0]))
    size = math.ceil(len(encoded) / settings.micro_batches)
    for first in range(0, len(encoded), size):
        inputs, labels = zip(*encoded[first : first + size], strict=True)
        yield _padded(inputs, token_id(tokenizer, PADDING)), _padded(labels, IGNORED)


def encode_documents(
    tokenizer: PreTrainedTokenizerFast, documents: list[Document]
) -> list[tuple[list[int], list[int]]]:
    """Token ids and labels of each document, as the chat template lays it out.

    Only the assistant's turn is supervised.
    """
    encoded = []
    for written in documents:
        prompt = _token_ids(tokenizer, _prompt_text(tokenizer, written))
        completion = _token_ids(tokenizer, written.completion + END)
        labels = [IGNORED] * len(prompt) + completion
        encoded.append((prompt + completion, labels))
    return encoded


def _token_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"])


def _prompt_text(tokenizer: PreTrainedTokenizerFast, document: Document) -> str:
    turn = {"role": "user", "content": document.prompt}
    text = tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    return cast(str, text)


def _padded(rows: tuple[list[int], ...], filler: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def _backward(model: Qwen3ForCausalLM, inputs: Tensor, labels: Tensor, supervised: int) -> float:
    """Adds this micro-batch's share of the step's mean loss to the gradients.

    Right padding needs no mask in a causal model.
    """
    hidden = model.model(inputs[:, :-1], use_cache=False).last_hidden_state
    next_tokens = labels[:, 1:]
    kept = next_tokens != IGNORED
    logits = model.lm_head(hidden[kept])
    loss = cross_entropy(logits, next_tokens[kept], reduction="sum") / supervised
    loss.backward()
    return loss.item()
