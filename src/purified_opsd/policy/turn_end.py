"""Where a completion ends: the tokens after which the model's turn is over.

Four places name them, and often not the same: the generation config, the model's config, the
tokenizer, and the chat template by what it writes after a finished turn.  All of them count.
"""

import logging
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple, cast

from jinja2 import TemplateError as JinjaError
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from purified_opsd.errors import ModelError

from .lm_head import output_layer

logger = logging.getLogger(__name__)

QUESTION, ANSWER = "What is 2 + 2?", "It is 4."
"""One finished exchange, rendered to see how the template ends the model's turn."""


class Turn(NamedTuple):
    """The model's finished turn, as the template writes it."""

    inside: list[int]
    """The tokens between the question's turn and the answer's text."""
    after: list[int]
    """The tokens after the answer's text."""


def set_eos_ids(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Makes the model's generation config name every token that ends a completion, and logs them
    where the places that name them disagree.

    Raises ModelError where there is none.
    """
    named = _named_ends(base, tokenizer)
    ends = sorted(set().union(*named.values()))
    if not ends:
        raise ModelError(
            f"No token ends a completion of {base.name_or_path}: its generation config, its config "
            "and its tokenizer name no eos token that the tokenizer has, and its chat template "
            "ends the model's turn with none. Every completion would run to "
            "sampling.max_new_tokens. Name the token in tokenizer_config.json as eos_token."
        )
    if any(set(ids) != set(ends) for ids in named.values()):
        logger.warning(
            "What ends a completion is not everywhere the same; taken is each of these: %s.",
            "; ".join(_described(token, named, tokenizer) for token in ends),
        )
    if base.generation_config is None:
        base.generation_config = GenerationConfig()
    base.generation_config.eos_token_id = ends


def eos_ids(base: PreTrainedModel) -> list[int]:
    """Every token that ends a completion: those of the generation config, which `set_eos_ids`
    completes, else the model's own.  Raises ModelError where there is none.
    """
    generation = base.generation_config
    ids = _as_ids(generation.eos_token_id) if generation else []
    ids = ids or _as_ids(base.config.get_text_config().eos_token_id)
    if not ids:
        raise ModelError(
            f"No token ends a completion of {base.name_or_path}: neither its generation config nor "
            "its config names one. Set generation_config.eos_token_id."
        )
    return ids


def _named_ends(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """The ends by what names them: every place that names any which can be one."""
    turn = _finished_turn(tokenizer)
    own_end = _own_end(turn, tokenizer)
    generation = base.generation_config
    named = {
        "generation config": _as_ids(generation.eos_token_id) if generation else [],
        "model config": _as_ids(base.config.get_text_config().eos_token_id),
        "tokenizer": _as_ids(cast("int | None", tokenizer.eos_token_id)),
        "chat template": _as_ids(own_end),
    }
    V = len(cast(Tensor, output_layer(base).weight))
    inside = set(turn.inside) - {own_end}
    ends: dict[str, list[int]] = {}
    for place, ids in named.items():
        for token in ids:
            reason = _refusal(token, V, _control_tokens(tokenizer), inside)
            if reason is None:
                ends.setdefault(place, []).append(token)
            else:
                logger.warning(
                    "The %s says that %d ends a completion: %s, so it is not taken.",
                    place,
                    token,
                    reason,
                )
    return ends


def _refusal(token: int, V: int, control: set[int], inside: set[int]) -> str | None:
    """Why a token that is named as an end is none; None where it may be one."""
    if not 0 <= token < V:
        return f"the model has {V} tokens"
    if token not in control:
        return "to the tokenizer it is ordinary text"
    if token in inside:
        return "the chat template writes it in the middle of the model's turn"
    return None


def _own_end(turn: Turn, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The control token that the template writes after a finished turn: the first special one, or
    an added one if it follows at once.  None where there is no such token.
    """
    special = set(tokenizer.all_special_ids)
    for token in turn.after:
        if token in special:
            return token
    followed_by = [token for token in turn.after if cast(str, tokenizer.decode([token])).strip()]
    if followed_by and followed_by[0] in _control_tokens(tokenizer):
        return followed_by[0]
    return None


def _finished_turn(tokenizer: PreTrainedTokenizerBase) -> Turn:
    """The model's turn in a finished exchange; empty where the template renders none."""
    if not tokenizer.chat_template:
        return Turn([], [])
    asked = [{"role": "user", "content": QUESTION}]
    answered = [*asked, {"role": "assistant", "content": ANSWER}]
    try:
        opened = _render(tokenizer, asked, add_generation_prompt=True)
        finished = _render(tokenizer, answered, add_generation_prompt=False)
    except (JinjaError, TypeError, ValueError):  # the prompts' own check says so
        return Turn([], [])
    # 1. The texts around the answer; what opens the turn is where the two renderings part.
    before, found, after = finished.rpartition(ANSWER)
    if not found:
        return Turn([], [])
    question_end = before.rfind(QUESTION) + len(QUESTION)
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(opened, finished, strict=False))
    start = max(len(list(alike)), question_end)
    # 2. As tokens.
    inside_ids = tokenizer.encode(before[start:], add_special_tokens=False)
    after_ids = tokenizer.encode(after, add_special_tokens=False)
    return Turn(list(inside_ids), list(after_ids))


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], add_generation_prompt: bool
) -> str:
    text = tokenizer.apply_chat_template(
        messages, add_generation_prompt=add_generation_prompt, tokenize=False
    )
    return cast(str, text)


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that are not made of text: special and added ones, but for blanks, which some
    tokenizers add.
    """
    added = tokenizer.added_tokens_decoder.items()
    return {id for id, token in added if token.content.strip()} | set(tokenizer.all_special_ids)


def _as_ids(value: int | Sequence[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)


def _described(token: int, named: dict[str, list[int]], tokenizer: PreTrainedTokenizerBase) -> str:
    places = [place for place, ids in named.items() if token in ids]
    return f"{tokenizer.convert_ids_to_tokens(token)} ({token}), by the {' and the '.join(places)}"
