"""How good the miniature is and how it reasons.

Measured are accuracy by context and temperature, lengths, reflection and what it is worth.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from purified_opsd.data.prompts import BASE_TEMPLATE, REFERENCE_TEMPLATE, TEACHER_TEMPLATE
from purified_opsd.miniature.task import grade

from .reflection import Reflection, reflect
from .tokenizer import CHECKS, END, MARKERS, MISS, token_id

CONTEXTS = {
    "base": BASE_TEMPLATE,
    "teacher": TEACHER_TEMPLATE,
    "reference": REFERENCE_TEMPLATE,
}


@dataclass(frozen=True)
class Manner:
    """How the model may reason: freely, or with a part of its reflection not to be sampled."""

    name: str
    forbidden: tuple[str, ...] = ()
    """Vocabulary entries that may not be written."""


FREE = Manner("free")
NO_CHECKS = Manner("no checks", forbidden=CHECKS)
NO_MARKERS = Manner("no markers", forbidden=MARKERS)


@dataclass(frozen=True)
class CardSampling:
    """How completions are drawn. Temperature 0 is greedy."""

    temperature: float = 1.0
    new_tokens: int = 192
    batch: int = 128
    seed: int = 0
    manner: Manner = FREE


@dataclass(frozen=True)
class CardCompletion:
    """What the model wrote for one row."""

    text: str
    tokens: int
    """Sampled ones, the end token included."""
    ended: bool


@dataclass(frozen=True)
class Measurement:
    """One line of the card. Accuracies are shares; the standard error is over questions."""

    context: str
    temperature: float
    manner: str
    questions: int
    accuracy: float
    standard_error: float
    right_at_first: float
    """Share of completions that are right without a second attempt."""
    ended: float
    """Share of completions that ended within `new_tokens`."""
    mean_tokens: float
    markers: float
    """Per completion, as checks and slips are."""
    markers_per_1000_tokens: float
    checks: float
    checks_that_catch: float | None
    """Share of the checks; None if there were none."""
    slips: float
    slips_mended: float | None
    """Share that the very next words put right; None if there were no slips."""


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, str]],
    context: str,
    sampling: CardSampling,
) -> Measurement:
    """Draws one completion a row in the context (a key of CONTEXTS), and grades it."""
    template = CONTEXTS[context]
    prompts = [template.format(problem=row["problem"], reference=row["solution"]) for row in rows]
    completions = list(complete(model, tokenizer, prompts, sampling))
    right = [
        grade(row["problem"], completion.text)
        for row, completion in zip(rows, completions, strict=True)
    ]
    return _summary(context, sampling, completions, right)


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    sampling: CardSampling,
) -> Iterator[CardCompletion]:
    """One completion for each text of a user's turn.

    The same seed and batch give the same completions.
    """
    for first in range(0, len(prompts), sampling.batch):
        batch = prompts[first : first + sampling.batch]
        turns = [[{"role": "user", "content": prompt}] for prompt in batch]
        texts = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        inputs = tokenizer(
            cast(list[str], texts), padding=True, add_special_tokens=False, return_tensors="pt"
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sampling.seed + first)
            output = cast(Any, model).generate(**inputs, **_generation(tokenizer, sampling))
        written = output[:, inputs["input_ids"].shape[1] :].tolist()
        yield from (_completion(tokenizer, row) for row in written)


def _generation(tokenizer: PreTrainedTokenizerBase, sampling: CardSampling) -> dict[str, Any]:
    drawn = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    greedy = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    settings: dict[str, Any] = {"max_new_tokens": sampling.new_tokens}
    settings |= drawn if sampling.temperature else greedy
    if sampling.manner.forbidden:
        forbidden = list(sampling.manner.forbidden)
        settings["suppress_tokens"] = tokenizer.convert_tokens_to_ids(forbidden)
    return settings


def _completion(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> CardCompletion:
    end = token_id(tokenizer, END)
    ended = end in ids
    before_end = ids[: ids.index(end)] if ended else ids
    text = cast(str, tokenizer.decode(before_end))
    return CardCompletion(text, tokens=len(before_end) + ended, ended=ended)


def _summary(
    context: str, sampling: CardSampling, completions: list[CardCompletion], right: list[bool]
) -> Measurement:
    count, accuracy = len(right), sum(right) / len(right)
    total = reduce(add, (reflect(completion.text) for completion in completions), Reflection())
    tokens = sum(completion.tokens for completion in completions)
    one_attempt = [MISS not in completion.text for completion in completions]
    right_at_first = sum(hit and first for hit, first in zip(right, one_attempt, strict=True))
    return Measurement(
        context=context,
        temperature=sampling.temperature,
        manner=sampling.manner.name,
        questions=count,
        accuracy=accuracy,
        standard_error=math.sqrt(accuracy * (1 - accuracy) / count),
        right_at_first=right_at_first / count,
        ended=sum(completion.ended for completion in completions) / count,
        mean_tokens=tokens / count,
        markers=total.markers / count,
        markers_per_1000_tokens=1000 * total.markers / tokens,
        checks=total.checks / count,
        checks_that_catch=total.catches / total.checks if total.checks else None,
        slips=total.slips / count,
        slips_mended=total.catches / total.slips if total.slips else None,
    )
