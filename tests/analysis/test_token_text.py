"""Tokens as text, for the kinds of tokenizers there are."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from purified_opsd import miniature
from purified_opsd.analysis.markers import MARKERS, count_substrings
from purified_opsd.analysis.token_text import marker_spans, token_text

from ..conftest import byte_tokenizer


def texts(tokenizer, text):
    return [
        token_text(tokenizer, token)
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]
    ]


def test_a_byte_of_a_character_is_shown_as_a_byte():
    assert texts(byte_tokenizer(), "a ≤\n") == ["a", " ", "⟨e2⟩", "⟨89⟩", "⟨a4⟩", "\n"]


def test_several_bytes_that_end_in_half_a_character_are_shown_as_bytes():
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(
        models.BPE({**vocabulary, "aâ": 256, "âĪ": 257}, merges=[("a", "â"), ("â", "Ī")])
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert [token_text(fast, token) for token in (256, 257)] == ["⟨61 e2⟩", "⟨e2 88⟩"]


def test_a_leading_space_that_decoding_drops_is_kept():
    """SentencePiece's way, with bytes as fallback."""
    vocabulary = {"<unk>": 0, "▁Wait": 1, ",": 2, "▁": 3, "<0xE2>": 4, "check": 5}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert fast.decode([1, 2]) == "Wait,"
    assert [token_text(fast, token) for token in (1, 2, 3, 4, 5)] == [
        " Wait",
        ",",
        " ",
        "⟨e2⟩",
        "check",
    ]


@pytest.mark.parametrize(
    "text",
    ["Wait, try 7 + 8 = 15. So \\boxed{7 + 8}<|end|>", "Hmm, check: 3. Not 6. Perhaps 2 + 7"],
)
def test_joined_texts_are_the_text(text):
    assert "".join(texts(AutoTokenizer.from_pretrained(miniature.BASE), text)) == text
    assert "".join(texts(byte_tokenizer(), text)) == text


def test_markers_are_found_across_tokens_and_inside_words():
    pieces = ["Wa", "it", ", ", "check", "ing. ", "HMM", "!"]
    assert marker_spans(pieces) == [(0, 1, "wait"), (3, 3, "check"), (5, 5, "hmm")]
    assert marker_spans(pieces, ["ing"]) == [(4, 4, "ing")]
    assert marker_spans(["no", "ne"]) == []


def test_there_are_as_many_as_are_counted():
    text = (
        "Wait, wait. Perhaps it might be likely; it seems unlikely. Let me check, actually "
        "checking: hmm, maybe. Alternatively"
    )
    pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
    assert len(marker_spans(pieces)) == count_substrings([text], MARKERS).total() == 13
