"""How good the miniature is and how it reasons: accuracy by context and temperature, lengths,
reflection and what it is worth.
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

CONTEXTS = {"question": BASE_TEMPLATE, "teacher": TEACHER_TEMPLATE, "reference": REFERENCE_TEMPLATE}


@dataclass(frozen=True)
class Manner:
    """How the model is let reason: freely, or with a part of its reflection taken away at sampling."""

    name: str
    forbidden: tuple[str, ...] = ()  # vocabulary entries that may not be written


FREE = Manner("free")
NO_CHECKS = Manner("no checks", forbidden=CHECKS)
NO_MARKERS = Manner("no markers", forbidden=MARKERS)


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. Temperature 0 is greedy."""

    temperature: float = 1.0
    new_tokens: int = 192
    batch: int = 128
    seed: int = 0
    manner: Manner = FREE


@dataclass(frozen=True)
class Completion:
    """What the model wrote for one row."""

    text: str
    tokens: int  # sampled ones, the end token included
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
    right_at_first: float  # share of completions that are right without a second attempt
    ended: float  # share of completions that ended within `new_tokens`
    mean_tokens: float
    markers: float  # per completion
    markers_per_1000_tokens: float
    checks: float  # per completion
    checks_that_catch: float | None  # share; None if there were no checks
    slips: float  # per completion
    # share that the very next words put right; None if there were no slips
    slips_mended: float | None


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, str]],
    context: str,
    sampling: Sampling,
) -> Measurement:
    """Draws one completion a row in the context ("question", "teacher" or "reference") and grades
    it.
    """
    prompts = [
        CONTEXTS[context].format(problem=row["problem"], reference=row["solution"]) for row in rows
    ]
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
    sampling: Sampling,
) -> Iterator[Completion]:
    """One completion for each text of a user's turn. The same seed and batch give the same
    completions.
    """
    for first in range(0, len(prompts), sampling.batch):
        turns = [
            [{"role": "user", "content": prompt}]
            for prompt in prompts[first : first + sampling.batch]
        ]
        texts = cast(
            list[str],
            tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False),
        )
        inputs = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sampling.seed + first)
            output = cast(Any, model).generate(**inputs, **_generation(tokenizer, sampling))
        written = output[:, inputs["input_ids"].shape[1] :].tolist()
        yield from (_completion(tokenizer, row) for row in written)


def _generation(tokenizer: PreTrainedTokenizerBase, sampling: Sampling) -> dict:
    drawn = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    greedy = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    settings = {
        "max_new_tokens": sampling.new_tokens,
        **(drawn if sampling.temperature else greedy),
    }
    if sampling.manner.forbidden:
        settings["suppress_tokens"] = tokenizer.convert_tokens_to_ids(
            list(sampling.manner.forbidden)
        )
    return settings


def _completion(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> Completion:
    end = token_id(tokenizer, END)
    kept = ids[: ids.index(end)] if end in ids else ids
    return Completion(cast(str, tokenizer.decode(kept)), len(kept) + (end in ids), end in ids)


def _summary(
    context: str, sampling: Sampling, completions: list[Completion], right: list[bool]
) -> Measurement:
    count, accuracy = len(right), sum(right) / len(right)
    total = reduce(add, (reflect(completion.text) for completion in completions), Reflection())
    tokens = sum(completion.tokens for completion in completions)
    return Measurement(
        context=context,
        temperature=sampling.temperature,
        manner=sampling.manner.name,
        questions=count,
        accuracy=accuracy,
        standard_error=math.sqrt(accuracy * (1 - accuracy) / count),
        right_at_first=sum(
            r and MISS not in completion.text
            for r, completion in zip(right, completions, strict=True)
        )
        / count,
        ended=sum(completion.ended for completion in completions) / count,
        mean_tokens=tokens / count,
        markers=total.markers / count,
        markers_per_1000_tokens=1000 * total.markers / tokens,
        checks=total.checks / count,
        checks_that_catch=total.catches / total.checks if total.checks else None,
        slips=total.slips / count,
        slips_mended=total.catches / total.slips if total.slips else None,
    )
