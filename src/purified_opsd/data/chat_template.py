"""A chat template, rendered as transformers renders it, but without chance and with its clock
standing still.

transformers gives a template the time of the call (`strftime_now`), so a template that prints the
date makes other prompts tomorrow, and after a resume.
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes

from purified_opsd.errors import SettingsError, TemplateError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]
"""A turn: its `role` and its `content`."""
WAY_OUT = "Mend it, or name a template of your own with --prompts.template FILE."


class ChatTemplate:
    """A compiled chat template with the variables that it is given beside the messages."""

    def __init__(self, source: str, name: str, variables: Mapping[str, Any], date: datetime.date):
        """`name` is what messages call it; `date` is what its clock shows, at midnight.

        Raises TemplateError where it is not Jinja, or draws at random.
        """
        self.source, self.name, self.variables = source, name, variables
        try:
            environment = _environment(source, date)
            self._template = environment.from_string(source)
            names = environment.parse(source).find_all(nodes.Name)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"{name} cannot be read as Jinja: line {error.lineno}: {_sentence(error)} {WAY_OUT}"
            ) from error
        self.uses_clock = any(node.name == "strftime_now" for node in names)
        self.fingerprint = sha256(source.encode()).hexdigest()[:16]

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """Returns the conversation as one text.  Raises TemplateError."""
        try:
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **{**self.variables, **variables},
            )
        except Exception as error:  # a template is somebody else's program and can raise anything
            raise TemplateError(
                f"{self.name} cannot be rendered: {type(error).__name__}: {_sentence(error)} "
                f"{WAY_OUT}"
            ) from error


def load_chat_template(
    tokenizer: "PreTrainedTokenizerBase",
    file: Path | None,
    thinking: bool,
    date: datetime.date,
) -> ChatTemplate:
    """Returns the template in a file; None: the tokenizer's own.

    Raises SettingsError where the file cannot be read, and TemplateError where there is no template
    or it is not Jinja.
    """
    variables = {**tokenizer.special_tokens_map, **thinking_flags(thinking)}
    if file is not None:
        return ChatTemplate(read_template(file), f"prompts.template {file}", variables, date)
    model = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise TemplateError(
            f"The tokenizer of {model} has no chat template, so a question cannot be put to the "
            "model as a user's turn. Use an instruction-tuned or reasoning model, put a "
            "chat_template.jinja into the model's folder, or name one with --prompts.template FILE."
        )
    try:
        source = tokenizer.get_chat_template()
    except ValueError as error:
        names = ", ".join(sorted(tokenizer.chat_template))
        raise TemplateError(
            f"The tokenizer of {model} has several chat templates ({names}), and none is called "
            "default. Write the one to use into a file, and name it with --prompts.template FILE."
        ) from error
    return ChatTemplate(source, f"The chat template of {model}", variables, date)


def thinking_flags(thinking: bool) -> dict[str, bool]:
    """Returns what templates know as the flag: `enable_thinking` (Qwen), `thinking` (DeepSeek,
    Granite).
    """
    return {"enable_thinking": thinking, "thinking": thinking}


def read_template(file: Path) -> str:
    """Returns the text of a template file.  Raises SettingsError."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(
            f"The chat template prompts.template {file} cannot be read: {reason}. Give a file in "
            "Jinja, such as a model's chat_template.jinja."
        ) from error


def _environment(source: str, date: datetime.date) -> jinja2.Environment:
    """Returns the environment in which transformers compiles templates, its clock standing still,
    less what draws at random.  Raises jinja2.TemplateSyntaxError.
    """
    # private, but what it has in it (a sandbox, tags, functions) changes from version to version
    from transformers.utils.chat_template_utils import _compile_jinja_template

    environment = _compile_jinja_template(source).environment.overlay()
    chance = ("random", "lipsum")
    environment.filters = _without(environment.filters, chance)
    environment.globals = _without(environment.globals, chance) | {"strftime_now": _clock(date)}
    return environment


def _without(names: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in names.items() if name not in left_out}


def _clock(date: datetime.date) -> Callable[[str], str]:
    midnight = datetime.datetime.combine(date, datetime.time())
    return midnight.strftime


def _sentence(error: Exception) -> str:
    """Returns the first line of an error's text, with a full stop."""
    line = first_line(error) or "no reason is given"
    return line.rstrip(".") + "."
