"""The three contexts under which a completion is scored, as token ids: question, teacher,
reference.

One user turn, no system prompt, the model's own chat template. The reference probe's text is the
teacher's without the problem, word for word, and none of its words points at a problem: what the
two share cancels in Δ_it (Eq. 13).
"""

from bisect import bisect_left
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, NamedTuple, cast

from transformers import BatchEncoding, PreTrainedTokenizerBase

from purified_opsd.errors import DataError, TemplateError

from .dataset import Example

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{{}}."

REFERENCE = (
    "Here is a reference solution:\n"
    "=== Reference Solution Begin ===\n"
    "{reference}\n"
    "=== Reference Solution End ===\n\n"
    "Make sure you understand the reasoning behind each step above; do not copy or paraphrase it. "
    "Then derive the same final answer by your own reasoning, in your own words.\n\n" + INSTRUCTION
)

QUESTION = "{problem}\n\n" + INSTRUCTION

TEACHER = "{problem}\n\n" + REFERENCE

WORDING = sha256("\0".join((QUESTION, REFERENCE, TEACHER)).encode()).hexdigest()[:16]
"""Identifies the wording of the contexts in a run's record."""


@dataclass(frozen=True)
class Prompts:
    """How an example becomes prompts."""

    thinking: bool = True
    """Handed to the chat template as `enable_thinking`, for every context alike; templates that
    know no such flag ignore it.
    """
    max_tokens: int = 20_000
    """The longest prompt of any context; a longer reference is cut at its end to fit."""
    long_reference: Literal["cut", "refuse"] = "cut"
    """Whether a reference that does not fit is cut (and counted), or its row refused before
    training starts.
    """

    def __post_init__(self):
        if self.max_tokens < 1:
            raise ValueError(
                f"prompts.max_tokens must be at least 1, got {self.max_tokens}. Leave it out for "
                "20,000."
            )


class Contexts(NamedTuple):
    """Token ids of the three prompts of one example; `cut` tells whether its reference was
    shortened.
    """

    question: list[int]
    teacher: list[int]
    reference: list[int]
    cut: bool


class PromptBuilder:
    """Renders contexts with a tokenizer's chat template.  Raises TemplateError where the tokenizer
    has none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: Prompts, room: int):
        """`room`: the most prompt tokens that leave a whole completion its place in the model's
        context.
        """
        if not tokenizer.chat_template:
            raise TemplateError(
                f"The tokenizer of {tokenizer.name_or_path} has no chat template, so a question "
                "cannot be put to the model as a user's turn. Use an instruction-tuned or "
                "reasoning model, or put a chat_template.jinja into the model's folder."
            )
        self.tokenizer, self.settings = tokenizer, settings
        self.limit = min(settings.max_tokens, room)
        self.overhead = len(self._teacher("", "")) + 4
        """Tokens of a teacher's prompt without problem and reference, and one character of the
        latter.
        """

    def question(self, problem: str) -> list[int]:
        """π(·|q): the prompt that the student, and evaluation, see."""
        return self._render(QUESTION.format(problem=problem))

    def contexts(self, example: Example) -> Contexts:
        """All three contexts, the teacher and the probe with the same reference.  Raises DataError
        where it cannot fit.
        """
        reference = self._fitting_reference(example)
        return Contexts(
            question=self.question(example.problem),
            teacher=self._teacher(example.problem, reference),
            reference=self._render(REFERENCE.format(reference=reference)),
            cut=reference != example.reference,
        )

    def check(self, example: Example) -> None:
        """Raises DataError if the example's question cannot fit, or its reference may not be cut
        and does not.
        """
        counted = example.problem + (
            example.reference if self.settings.long_reference == "refuse" else ""
        )
        if self.overhead + len(counted.encode()) > self.limit:  # a token is a byte at least
            self._fitting_reference(example)

    def _fitting_reference(self, example: Example) -> str:
        """The longest beginning of the reference with which the teacher's prompt, the longest of
        the three, fits.
        """

        def fits(characters: int) -> bool:
            return len(self._teacher(example.problem, example.reference[:characters])) <= self.limit

        if fits(len(example.reference)):
            return example.reference
        if self.settings.long_reference == "refuse":
            raise DataError(
                f"{example.where}: its reference does not fit: the teacher's prompt has more than "
                f"{self.limit} tokens. Shorten it, raise prompts.max_tokens if the model's context "
                "allows, or let it be cut with --prompts.long-reference cut."
            )
        if not fits(1):
            raise DataError(
                f"{example.where}: its question does not fit: without any reference the teacher's "
                f"prompt has more than {self.limit} tokens (prompts.max_tokens is "
                f"{self.settings.max_tokens}; the completion must fit into the model's context "
                "too). Questions are never cut: leave the row out, or allow more tokens."
            )
        return example.reference[
            : bisect_left(range(len(example.reference)), True, lo=1, key=lambda n: not fits(n)) - 1
        ]

    def _teacher(self, problem: str, reference: str) -> list[int]:
        return self._render(TEACHER.format(problem=problem, reference=reference))

    def _render(self, text: str) -> list[int]:
        """One user turn and the header of the assistant's, with the beginning-of-sequence token at
        most once.
        """
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            enable_thinking=self.settings.thinking,
        )
        ids = cast(BatchEncoding, rendered)["input_ids"]
        bos = self.tokenizer.bos_token_id
        while bos is not None and ids[:2] == [bos, bos]:
            ids = ids[1:]
        return ids
