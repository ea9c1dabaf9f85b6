"""One question and the header of the model's answer, in the form in which a chat template takes
them; and whether the template can be used for that at all.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

from purified_opsd.errors import TemplateError

from .chat_template import WAY_OUT, ChatTemplate, Message

Content = Callable[[str], Any]
"""Turns a text into a turn's content."""

_QUESTION, _ANSWER = "Zebra 48271?\n\nQuagga 90317.", "Okapi 65129."
"""Texts that no template holds."""


def plain(text: str) -> str:
    """A content that is the text itself."""
    return text


def parts(text: str) -> list[dict[str, str]]:
    """A content that is a list of parts, as templates of models that see images take it."""
    return [{"type": "text", "text": text}]


@dataclass(frozen=True)
class Conversation:
    """A user's turn, after a system prompt where there is one, and the header of the answer."""

    template: ChatTemplate
    system: str | None
    system_content: Content = plain
    content: Content = plain

    def prompt(
        self,
        text: str,
        mark: Callable[[str], str] = plain,
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """Returns the prompt that asks `text`.  `mark` is applied to each text before it is
        rendered.  Raises TemplateError.
        """
        return self.template.render(self._asking(text, mark), True, variables)

    def without_header(self, text: str) -> str:
        """Returns the conversation up to the end of the user's turn."""
        return self.template.render(self._asking(text), False)

    def answered(self, text: str, answer: str) -> str:
        """Returns the conversation with the model's answer in it."""
        turn = {"role": "assistant", "content": self.content(answer)}
        return self.template.render([*self._asking(text), turn], False)

    def _asking(self, text: str, mark: Callable[[str], str] = plain) -> list[Message]:
        user = {"role": "user", "content": self.content(mark(text))}
        if self.system is None:
            return [user]
        return [{"role": "system", "content": self.system_content(mark(self.system))}, user]


def open_conversation(template: ChatTemplate, system: str | None) -> Conversation:
    """Returns the conversation in the first form of content whose texts the template prints.

    Raises TemplateError where there is none, or where a prompt does not end with what opens the
    model's turn.
    """
    problems: list[TemplateError] = []
    for conversation in _forms(template, system):
        try:
            _check_texts(conversation)
        except TemplateError as error:
            problems.append(error)
        else:
            _check_header(conversation)
            return conversation
    if system is not None:
        open_conversation(template, None)
        raise TemplateError(
            f"{template.name} takes no system prompt, and prompts.system is set: {problems[0]} "
            "Leave prompts.system out, and put its words into prompts.base, prompts.reference and "
            "prompts.teacher."
        )
    raise problems[0]


def _forms(template: ChatTemplate, system: str | None) -> Iterator[Conversation]:
    if system is None:
        yield from (Conversation(template, None, content=form) for form in (plain, parts))
        return
    for content, system_content in product((plain, parts), repeat=2):
        yield Conversation(template, system, system_content, content)


def _check_texts(conversation: Conversation) -> None:
    """Raises TemplateError where a text is not in the prompt, or more than once."""
    prompt = conversation.prompt(_QUESTION)
    count = prompt.count(_QUESTION)
    if count != 1:
        raise TemplateError(
            f"{conversation.template.name} prints a user's words {count} times: of the turn "
            f"{_QUESTION!r} it makes {shortened(prompt)!r}. Contexts that do not hold problem and "
            f"reference teach nothing. {WAY_OUT}"
        )
    system = conversation.system
    if system is not None and system.strip() not in prompt:
        raise TemplateError(f"It does not print it: it makes {shortened(prompt)!r}.")


def _check_header(conversation: Conversation) -> None:
    """Raises TemplateError where the prompt does not end with the opening of the model's turn."""
    prompt = conversation.prompt(_QUESTION)
    without_header = conversation.without_header(_QUESTION)
    common = _common_start(prompt, without_header)
    question = prompt.index(_QUESTION)
    before_question = prompt[:question].strip()
    header = prompt[len(common) :].strip()
    if question + len(_QUESTION) > len(common):
        reason = "prints the user's words after the header of the model's turn"
    elif header and before_question.endswith(header):
        reason = f"opens another turn of the user's with {header!r}"
    elif not header and not _answers_follow(prompt, conversation):
        reason = f"opens no turn of the model's: the prompt ends with {prompt[-40:]!r}"
    else:
        return
    raise TemplateError(
        f"{conversation.template.name} {reason}. The model would go on with the user's words "
        "instead of answering them. Let add_generation_prompt print the header of the model's "
        f"turn. {WAY_OUT}"
    )


def _answers_follow(prompt: str, conversation: Conversation) -> bool:
    """Do the template's answers come right after the prompt, as after Mistral's [/INST]?"""
    try:
        answered = conversation.answered(_QUESTION, _ANSWER)
    except TemplateError:
        return False
    before_answer, answer, _ = answered.partition(_ANSWER)
    return answer == _ANSWER and prompt.startswith(before_answer.rstrip())


def _common_start(first: str, second: str) -> str:
    """Returns the longest text that both begin with."""
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return first[:length]


def shortened(text: str) -> str:
    """Returns the beginning of a text that is too long for a message."""
    return text if len(text) <= 200 else f"{text[:200]}..."
