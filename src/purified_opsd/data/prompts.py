"""The three contexts under which a completion is scored, as token ids: base, teacher, reference.

One user turn, no system prompt, the model's own chat template. The base context holds the question
alone, the teacher's question and reference, the reference probe's the reference alone. The probe's
text is the teacher's without the problem, word for word, and none of its words points at a
problem: what the two share cancels in Δ_it (Eq. 13).
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from purified_opsd.errors import TemplateError

from .dataset import Example
from .truncation import ReferenceTruncation

if TYPE_CHECKING:  # settings are read without it, which takes seconds
    from transformers import BatchEncoding, PreTrainedTokenizerBase

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{{}}."

REFERENCE_TEMPLATE = (
    "Here is a reference solution:\n"
    "=== Reference Solution Begin ===\n"
    "{reference}\n"
    "=== Reference Solution End ===\n\n"
    "Make sure you understand the reasoning behind each step above; do not copy or paraphrase it. "
    "Then derive the same final answer by your own reasoning, in your own words.\n\n" + INSTRUCTION
)

BASE_TEMPLATE = "{problem}\n\n" + INSTRUCTION

TEACHER_TEMPLATE = "{problem}\n\n" + REFERENCE_TEMPLATE

_TEMPLATES = (BASE_TEMPLATE, REFERENCE_TEMPLATE, TEACHER_TEMPLATE)
WORDING = sha256("\0".join(_TEMPLATES).encode()).hexdigest()[:16]
"""Identifies the wording of the contexts in a run's record."""


@dataclass(frozen=True)
class Prompts:
    """How an example becomes prompts."""

    thinking: bool = True
    """Handed to the chat template as `enable_thinking`, for every context alike; templates that
    know no such flag ignore it.
    """
    max_tokens: int = 20_000
    """The longest prompt of any context; a longer reference is cut at its end to fit.  Source:
    upstream.
    """
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
    """Token ids of the three prompts of one example."""

    base: list[int]
    teacher: list[int]
    reference: list[int]
    cut: bool
    """Whether the reference was shortened."""


class PromptBuilder:
    """Renders contexts with a tokenizer's chat template."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", settings: Prompts, room: int):
        """`room` is the most prompt tokens that leave a whole completion its space in the model's
        context.  Raises TemplateError where the tokenizer has no chat template.
        """
        if not tokenizer.chat_template:
            raise TemplateError(
                f"The tokenizer of {tokenizer.name_or_path} has no chat template, so a question "
                "cannot be put to the model as a user's turn. Use an instruction-tuned or "
                "reasoning model, or put a chat_template.jinja into the model's folder."
            )
        self.tokenizer, self.settings = tokenizer, settings
        self.limit = min(settings.max_tokens, room)
        self.truncation = ReferenceTruncation(
            limit=self.limit,
            max_tokens=settings.max_tokens,
            long_reference=settings.long_reference,
            teacher_context=self._teacher_context,
        )

    def base_context(self, problem: str) -> list[int]:
        """The question alone, π(·|q): the prompt that the student, and evaluation, see."""
        return self._render(BASE_TEMPLATE.format(problem=problem))

    def contexts(self, example: Example) -> Contexts:
        """All three contexts, the teacher's and the probe's with the same reference.

        Raises DataError where it cannot fit.
        """
        reference = self.truncation.truncated(example)
        return Contexts(
            base=self.base_context(example.problem),
            teacher=self._teacher_context(example.problem, reference),
            reference=self._render(REFERENCE_TEMPLATE.format(reference=reference)),
            cut=reference != example.reference,
        )

    def check(self, example: Example) -> None:
        """Raises DataError if the example's question cannot fit, or its reference neither fits nor
        may be cut.
        """
        self.truncation.check(example)

    def _teacher_context(self, problem: str, reference: str) -> list[int]:
        return self._render(TEACHER_TEMPLATE.format(problem=problem, reference=reference))

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
        ids = cast("BatchEncoding", rendered)["input_ids"]
        bos = self.tokenizer.bos_token_id
        while bos is not None and ids[:2] == [bos, bos]:
            ids = ids[1:]
        return ids
