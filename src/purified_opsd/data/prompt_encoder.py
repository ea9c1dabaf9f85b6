"""A user's words to the token ids of a prompt in which they are nothing but words."""

from typing import TYPE_CHECKING

from purified_opsd.errors import TemplateError

from .chat_template import thinking_flags
from .control_tokens import ControlTokens, cut_around, cut_inside, unused_character
from .conversation import Conversation, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptEncoder:
    """Puts texts into a conversation and tokenizes it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", conversation: Conversation):
        self.control = ControlTokens(tokenizer, conversation.template.source)
        self._conversation = conversation
        self._bos = tokenizer.bos_token_id
        harmless = conversation.prompt("x", lambda _: "x")
        self._own = self.control.count(self.control.encode(harmless))
        """The control tokens that the template itself writes."""

    def encode(self, text: str, *words: str) -> list[int]:
        """Returns the prompt that asks `text`, with the beginning-of-sequence token at most once.

        `words` are those of its parts that the prompt must hold.  Raises TemplateError where the
        template refuses the text or changes a part, or a control token in it cannot be spelled.
        """
        rendered = self.render(text, *words)
        ids = self.control.encode(rendered)
        system = self._conversation.system or ""
        if self.control.within(text, system) or self.control.count(ids) != self._own:
            ids = self._encode_as_text(text, marker=unused_character(rendered, text, system))
        while self._bos is not None and ids[:2] == [self._bos, self._bos]:
            ids = ids[1:]
        return ids

    def render(self, text: str, *words: str) -> str:
        """Returns the prompt that asks `text`, which holds each of `words`.  Raises TemplateError
        where the template refuses the text or changes one of them.
        """
        rendered = self._conversation.prompt(text)
        for part in words:
            if part.strip() not in rendered:
                raise TemplateError(
                    f"{self._conversation.template.name} changes a text: {shortened(part)!r} is "
                    "not in the prompt as it stands."
                )
        return rendered

    def ignores_thinking(self) -> bool:
        """Is the prompt the same whether the model is to think or not?"""
        thinking = self._conversation.prompt("x", variables=thinking_flags(True))
        silent = self._conversation.prompt("x", variables=thinking_flags(False))
        return thinking == silent

    def _encode_as_text(self, text: str, marker: str) -> list[int]:
        """Tokenizes a prompt in pieces, so that only the template's own control tokens are left."""
        for cut in (cut_inside, cut_around):
            marked = self._conversation.prompt(text, cut(self.control, marker))
            ids = self.control.encode_pieces(marked.split(marker))
            if self.control.count(ids) == self._own:
                return ids
        raise TemplateError(
            f"The tokenizer makes a control token of the text {shortened(text)!r} however it is "
            "cut."
        )
