"""Tokens as text, one by one, whatever the tokenizer; and those that spell epistemic markers."""

import re
from collections.abc import Sequence
from typing import NamedTuple, cast

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from .markers import MARKERS

BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}
"""How byte-level vocabularies spell the 256 bytes."""


class MarkerSpan(NamedTuple):
    """Tokens first to last (included) spell the marker, with whatever else is in them."""

    first: int
    last: int
    marker: str


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """What the token adds to a text, its leading space included.

    A token that is part of a character is shown as its bytes: ⟨e2 89⟩.
    """
    alone = _decode(tokenizer, [token])
    if "\ufffd" in alone:
        return _bytes_text(tokenizer, token) or alone
    # Some decoders drop the leading space of a text's first token: the second one keeps it.
    return _decode(tokenizer, [token, token]).removeprefix(alone)


def marker_spans(texts: Sequence[str], markers: Sequence[str] = MARKERS) -> list[MarkerSpan]:
    """The markers in the tokens' joined texts, in order, counted as `count_substrings` does."""
    token_of = [index for index, text in enumerate(texts) for _ in text]
    joined = "".join(texts)
    return sorted(
        MarkerSpan(token_of[match.start()], token_of[match.end() - 1], marker)
        for marker in markers
        for match in re.finditer(re.escape(marker), joined, re.IGNORECASE)
    )


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return cast(
        str, tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )


def _bytes_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str | None:
    """`⟨e2 89⟩` for a token that is part of a character; None where its vocabulary entry spells no
    bytes.
    """
    entry = cast(str, tokenizer.convert_ids_to_tokens(token))
    fallback = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", entry)
    if fallback:
        return f"⟨{fallback[1].lower()}⟩"
    if not all(character in BYTE_OF for character in entry):
        return None
    return f"⟨{' '.join(f'{BYTE_OF[character]:02x}' for character in entry)}⟩"
