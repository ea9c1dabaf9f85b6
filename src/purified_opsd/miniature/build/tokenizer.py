"""The miniature's tokenizer: one entry a number, a phrase, or a constant sentence of the prompts.

Text comes back as it went in. Entries carry their own spaces, so decoding is joining. Text that no
entry spells becomes <|unknown|>.
"""

import re
from typing import cast

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from purified_opsd.data.prompts import INSTRUCTION, REFERENCE_TEMPLATE

USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END = "<|end|>"
PADDING = "<|padding|>"
UNKNOWN = "<|unknown|>"
LARGEST_SPELLED = 129

CHAT_TEMPLATE = (
    "{%- for message in messages -%}{%- if message.role == 'user' -%}{{ '<|user|>' + "
    "message.content }}{%- elif message.role == 'assistant' -%}{{ '<|assistant|>' + "
    "message.content + '<|end|>' }}{%- else -%}{{ raise_exception('the miniature knows user and "
    "assistant turns only, got role ' + message.role) }}{%- endif -%}{%- endfor -%}{%- if "
    "add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)

QUESTION_PHRASES = (
    "Calculate.",
    "Use ",
    ", ",
    " and ",
    " once each with +, - and × to make ",
    ".",
    "\n\n",
)
CHECKS = ("Wait, check: ", "Hmm, check: ", "Actually, check: ")
MARKERS = (
    "Wait, ",
    "Hmm, ",
    "Actually, ",
    "Alternatively, ",
    "Maybe ",
    "maybe ",
    "Perhaps ",
    "perhaps ",
    *CHECKS,
)
MISS = "Not "
TRACE_PHRASES = (
    " + ", " - ", " × ", " = ", ". ", "(", ")", "Try ", "try ", MISS, "So ", "\\boxed{", "}",
)  # fmt: skip


def token_id(tokenizer: PreTrainedTokenizerBase, entry: str) -> int:
    """The number of one vocabulary entry."""
    return cast(int, tokenizer.convert_tokens_to_ids(entry))


def prompt_sentences() -> tuple[str, ...]:
    """The constant parts of the three contexts, each one entry of the vocabulary."""
    instruction = INSTRUCTION
    before, after = REFERENCE_TEMPLATE.split("{reference}")
    return before, after.format().removesuffix(instruction), instruction


def phrases() -> tuple[str, ...]:
    """Everything that is spelled by one entry and is not a number."""
    return (*prompt_sentences(), *QUESTION_PHRASES, *MARKERS, *TRACE_PHRASES)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, which needs no training, since its vocabulary is written down here."""
    specials = (PADDING, END, USER, ASSISTANT, UNKNOWN)
    numbers = map(str, range(LARGEST_SPELLED + 1))
    entries = (*specials, *phrases(), *numbers)
    vocabulary = {entry: id for id, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    longest_first = sorted(phrases(), key=len, reverse=True)
    pattern = "|".join([*map(re.escape, longest_first), "[0-9]+"])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
