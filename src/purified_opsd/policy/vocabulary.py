"""Whether a tokenizer is the model's: every token that can occur has a row in the embedding."""

import logging
from typing import cast

from jinja2 import TemplateError as JinjaError
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from purified_opsd.data.control_tokens import ControlTokens
from purified_opsd.errors import ModelError

logger = logging.getLogger(__name__)

NAMED = 3
"""How many tokens a message names."""


def refuse_tokens_without_rows(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, path: str
) -> None:
    """Needs the configuration alone, no weights.

    Raises ModelError where the tokenizer has a token that can occur in a prompt, and for which the
    embedding has no row: one that is made of text, or that the chat template writes.  Other tokens
    without a row are named in a warning, as is a tokenizer that must be another model's.
    """
    rows = cast(int, config.get_text_config().vocab_size)
    vocabulary = cast(dict[str, int], tokenizer.get_vocab())
    without = {token: id for token, id in vocabulary.items() if id >= rows}
    _warn_of_another_tokenizer(tokenizer, config, path)
    if not without:
        return
    control = ControlTokens.of(tokenizer)
    written = _written_by_template(tokenizer)
    can_occur = [token for token, id in without.items() if id in written or not control.count([id])]
    sizes = (
        f"The tokenizer of {path} has {len(vocabulary)} tokens, up to id "
        f"{max(vocabulary.values())}, and the embedding of the model has {rows} rows"
    )
    if can_occur:
        raise ModelError(
            f"{sizes}: {_few(can_occur, vocabulary)} can occur in a prompt and would be no row of "
            "it. Use the tokenizer that belongs to the model, or resize the model's embedding to "
            "the tokenizer (resize_token_embeddings), train it, and save both."
        )
    logger.warning(
        "%s: %s cannot be read by it.  They occur in no prompt here.",
        sizes,
        _few(list(without), vocabulary),
    )


def _written_by_template(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens of a rendered turn.  None where the template renders none: the prompts' own check
    says so.
    """
    if not tokenizer.chat_template:
        return set()
    turn = [{"role": "user", "content": "1"}]
    try:
        text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    except (JinjaError, TypeError, ValueError):
        return set()
    return set(tokenizer.encode(cast(str, text), add_special_tokens=False))


def _warn_of_another_tokenizer(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, path: str
) -> None:
    """The ids that the configuration calls special are ordinary text to another model's tokenizer,
    or no token at all.
    """
    text = config.get_text_config()
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    foreign = []
    for name in ("bos_token_id", "eos_token_id"):
        value = text.to_dict().get(name)
        ids = value if isinstance(value, list) else [value]
        if ids != [None] and not special & set(ids):
            foreign.append(f"{name} {', '.join(map(str, ids))}")
    if foreign:
        logger.warning(
            "config.json of %s names %s, which to its tokenizer is no special token: is it another "
            "model's tokenizer?",
            path,
            " and ".join(foreign),
        )


def _few(tokens: list[str], vocabulary: dict[str, int]) -> str:
    ordered = sorted(tokens, key=vocabulary.__getitem__)
    named = ", ".join(f"{token!r} ({vocabulary[token]})" for token in ordered[:NAMED])
    rest = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return f"{named}{rest}"
