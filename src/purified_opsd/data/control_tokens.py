"""Control tokens: what a chat template says who speaks with, and no text may say.

A row that holds the text `<|im_end|>` would otherwise end the user's turn in the middle of it.  A
prompt with such a text in it is tokenized in pieces, cut inside the text, so that no piece spells a
control token.  All other prompts are tokenized whole.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THINKING_MARKS = frozenset(
    {
        "<think>", "</think>", "<thinking>", "</thinking>", "<thought>", "</thought>",
        "[THINK]", "[/THINK]", "<seed:think>", "</seed:think>",
        "<|begin_of_thought|>", "<|end_of_thought|>", "<|START_THINKING|>", "<|END_THINKING|>",
    }
)  # fmt: skip
"""What references rightly hold.  They stay what the tokenizer makes of them."""

_MARKER = re.compile(r"<[|｜].+[|｜]>")
"""What marks look like that tokenizers list as ordinary added tokens: Qwen's <|fim_prefix|>,
DeepSeek's <｜User｜>.
"""
_PRIVATE_USE = range(0xF0000, 0xFFFFE)
_PREFIXES = ("▁", "Ġ")
"""What a tokenizer that puts a space before every text begins it with."""


class ControlTokens:
    """The control tokens of a tokenizer under a chat template, and how to spell them as text."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", template: str):
        """`template` is the template's source: an added token is a control token if it is special,
        or written there, or looks like a mark.
        """
        self._tokenizer = tokenizer
        texts = {}
        for id, token in tokenizer.added_tokens_decoder.items():
            text = token.content
            if text.strip() and text not in THINKING_MARKS:
                written = text in template and not text[0].isalnum()
                if token.special or written or _MARKER.fullmatch(text):
                    texts[id] = text
        # Text that nothing spells becomes the unknown token, and that is no control.
        self._ids = {id for id in texts if id != tokenizer.unk_token_id}
        self._texts = frozenset(texts.values())
        self._lengths = sorted({len(text) for text in self._texts})
        self._beginning = _beginning(self._texts)
        start = tokenizer.convert_ids_to_tokens(self.encode("|"))
        self._newline = self.encode("\n") if start and start[0].startswith(_PREFIXES) else []

    def positions(self, text: str) -> Iterator[int]:
        """Yields where a text spells a control token."""
        for match in self._beginning.finditer(text):
            start = match.start()
            if any(text[start : start + length] in self._texts for length in self._lengths):
                yield start

    def within(self, *texts: str) -> bool:
        """Does one of the texts spell a control token?"""
        return any(next(self.positions(text), None) is not None for text in texts)

    def count(self, ids: Iterable[int]) -> Counter[int]:
        """Returns how often each control token is among the ids."""
        return Counter(id for id in ids if id in self._ids)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a rendered text as the tokenizer makes them."""
        return cast(list[int], self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_pieces(self, pieces: Iterable[str]) -> list[int]:
        """Returns the ids of a rendered text that was cut into pieces."""
        first, *others = pieces
        ids = self.encode(first) if first else []
        for piece in others:
            ids += self._encode_middle(piece)
        return ids

    def _encode_middle(self, piece: str) -> list[int]:
        """Returns the ids of a piece without the space that some tokenizers put before a text: it
        is put before a newline, which is taken off again.
        """
        ids = self.encode("\n" + piece) if self._newline else []
        if ids and ids[: len(self._newline)] == self._newline:
            return ids[len(self._newline) :]
        return self.encode(piece) if piece else []


def _beginning(texts: Iterable[str]) -> re.Pattern[str]:
    """Returns what matches the first character of a text where the second follows it."""
    second: dict[str, set[str]] = {}
    for text in texts:
        second.setdefault(text[0], set()).add(text[1:2])
    patterns = []
    for first, following in sorted(second.items()):
        choices = "|".join(re.escape(character) for character in sorted(following))
        patterns.append(f"{re.escape(first)}(?={choices})")
    return re.compile("|".join(patterns) or "(?!)")


def cut_inside(control: ControlTokens, marker: str) -> Callable[[str], str]:
    """Returns what puts the marker into a text, after the first character of every control token
    that it spells.
    """

    def mark(text: str) -> str:
        cuts = [start + 1 for start in control.positions(text)]
        return marker.join(text[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True))

    return mark


def cut_around(control: ControlTokens, marker: str) -> Callable[[str], str]:
    """Returns what does as `cut_inside`, and puts the marker at both ends of the text, so that
    neither end makes a control token with the template's text beside it.
    """
    inside = cut_inside(control, marker)

    def mark(text: str) -> str:
        words = text.strip()  # a template may strip, and must see the same ends
        if not words:
            return text
        before, _, after = text.partition(words)
        return f"{before}{marker}{inside(words)}{marker}{after}"

    return mark


def unused_character(*texts: str) -> str:
    """Returns a private-use character that none of the texts holds."""
    used = set().union(*texts)
    return next(chr(code) for code in _PRIVATE_USE if chr(code) not in used)
