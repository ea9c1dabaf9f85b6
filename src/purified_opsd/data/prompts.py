"""The three contexts under which a completion is scored, as token ids: base, teacher, reference.

One user turn, after a system prompt where one is set, in the model's own chat template or one of
the user's.  The base context holds the question alone, the teacher's question and reference, the
reference probe's the reference alone.  The probe's text is the teacher's without the problem, word
for word, and none of its words points at a problem: what the two share cancels in Δ_it (Eq. 13).
"""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from purified_opsd.errors import DataError, TemplateError

from .chat_template import load_chat_template
from .conversation import open_conversation
from .dataset import Example
from .prompt_encoder import PromptEncoder
from .truncation import ReferenceTruncation
from .wording import check_plain, check_wording, format_string, wording_hash

if TYPE_CHECKING:  # settings are read without it, which takes seconds
    from transformers import PreTrainedTokenizerBase

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
BASE_WORDING = "{problem}\n\n{instruction}"
REFERENCE_WORDING = (
    "Here is a reference solution:\n"
    "=== Reference Solution Begin ===\n"
    "{reference}\n"
    "=== Reference Solution End ===\n\n"
    "Make sure you understand the reasoning behind each step above; do not copy or paraphrase it. "
    "Then derive the same final answer by your own reasoning, in your own words.\n\n"
    "{instruction}"
)

BASE_TEMPLATE = format_string(BASE_WORDING, INSTRUCTION)
REFERENCE_TEMPLATE = format_string(REFERENCE_WORDING, INSTRUCTION)
TEACHER_TEMPLATE = "{problem}\n\n" + REFERENCE_TEMPLATE
"""The contexts as they are worded by default, as format strings."""

A_DAY = datetime.date(2025, 1, 1)


@dataclass(frozen=True)
class Prompts:
    """How an example becomes prompts."""

    thinking: bool = True
    """Handed to the chat template as `enable_thinking` and as `thinking`, for every context alike;
    templates that know no such flag ignore it.
    """
    max_tokens: int = 20_000
    """The longest prompt of any context; a longer reference is cut at its end to fit.  Source:
    upstream.
    """
    long_reference: Literal["cut", "refuse"] = "cut"
    """Whether a reference that does not fit is cut (and counted), or its row refused before
    training starts.
    """
    template: Path | None = None
    """A file with a chat template in Jinja; null: the tokenizer's own."""
    system: str | None = None
    """The system prompt of every context; null: none."""
    instruction: str = INSTRUCTION
    """What follows the question, and says how to answer."""
    base: str = BASE_WORDING
    """The student's and evaluation's wording, with {problem} and {instruction}."""
    reference: str = REFERENCE_WORDING
    """The reference probe's wording, with {reference} and {instruction}."""
    teacher: str | None = None
    """The teacher's wording, with {problem}, {reference} and {instruction}; null: the problem, an
    empty line, and the probe's wording.
    """
    date: datetime.date = A_DAY
    """What a template that prints the date is told."""

    def __post_init__(self):
        if self.max_tokens < 1:
            raise ValueError(
                f"prompts.max_tokens must be at least 1, got {self.max_tokens}. Leave it out for "
                "20,000."
            )
        check_plain("instruction", self.instruction)
        if self.system is not None:
            check_plain("system", self.system)
        check_wording("base", self.base, ["problem"])
        check_wording("reference", self.reference, ["reference"])
        if self.teacher is not None:
            check_wording("teacher", self.teacher, ["problem", "reference"])

    @property
    def format_strings(self) -> tuple[str, str, str]:
        """The wording of base, reference probe and teacher, as format strings."""
        base = format_string(self.base, self.instruction)
        reference = format_string(self.reference, self.instruction)
        if self.teacher is None:
            return base, reference, "{problem}\n\n" + reference
        return base, reference, format_string(self.teacher, self.instruction)

    def wording(self, template: str) -> str:
        """Returns what identifies the wording in a run's record.  `template` is the source of the
        chat template, which counts where it is the user's own.
        """
        others = {
            "template": template if self.template else None,
            "system": self.system,
            "date": None if self.date == A_DAY else str(self.date),
        }
        given = [f"{name}={text}" for name, text in others.items() if text is not None]
        return wording_hash(*self.format_strings, *given)


class Contexts(NamedTuple):
    """Token ids of the three prompts of one example."""

    base: list[int]
    teacher: list[int]
    reference: list[int]
    cut: bool
    """Whether the reference was shortened."""


class PromptBuilder:
    """Renders the three contexts of an example, as token ids, with a chat template; the paper's
    Section 3.2, Step 1.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", settings: Prompts, room: int):
        """`room` is the most prompt tokens that leave a whole completion its space in the model's
        context.

        Raises TemplateError where there is no chat template, or it cannot put a question and open
        the model's turn, and SettingsError where its file cannot be read.
        """
        self.tokenizer, self.settings = tokenizer, settings
        self.template = load_chat_template(
            tokenizer, settings.template, settings.thinking, settings.date
        )
        if settings.template is not None:
            tokenizer.chat_template = self.template.source  # what ends a turn is read from it too
        self._encoder = PromptEncoder(tokenizer, open_conversation(self.template, settings.system))
        self._base, self._reference, self._teacher = settings.format_strings
        self.wording = settings.wording(self.template.source)
        """Identifies the wording of the contexts in a run's record."""
        self.limit = min(settings.max_tokens, room)
        self.truncation = ReferenceTruncation(
            limit=self.limit,
            max_tokens=settings.max_tokens,
            long_reference=settings.long_reference,
            teacher_context=self._teacher_context,
        )

    def base_context(self, problem: str) -> list[int]:
        """The question alone, π(·|q): the prompt that the student, and evaluation, see.

        Raises TemplateError where the template refuses the question.
        """
        return self._encoder.encode(self._base.format(problem=problem), problem)

    def contexts(self, example: Example) -> Contexts:
        """All three contexts, the teacher's and the probe's with the same reference.

        Raises DataError where it cannot fit, or the template refuses it.
        """
        with refused_as_row(example.where):
            reference = self.truncation.truncated(example)
            probe = self._reference.format(reference=reference)
            return Contexts(
                base=self.base_context(example.problem),
                teacher=self._teacher_context(example.problem, reference),
                reference=self._encoder.encode(probe, reference),
                cut=reference != example.reference,
            )

    def check(self, example: Example) -> None:
        """Raises DataError if the example's question cannot fit, its reference neither fits nor
        may be cut, or the template refuses or changes one of them.
        """
        with refused_as_row(example.where):
            problem, reference = example.problem, example.reference
            text = self._teacher.format(problem=problem, reference=reference)
            self._encoder.render(text, problem, reference)
            self.truncation.check(example)

    def spells_control(self, *texts: str) -> bool:
        """Does one of the texts spell a control token?  In prompts it stays text."""
        return self._encoder.control.within(*texts)

    def remarks(self) -> list[str]:
        """Returns what is worth saying about the template before anything is drawn."""
        remarks = []
        if not self.settings.thinking and self._encoder.ignores_thinking():
            remarks.append(
                f"{self.template.name} knows no flag for thinking: prompts.thinking false changes "
                "nothing."
            )
        if self.template.uses_clock:
            remarks.append(
                f"{self.template.name} can print the date: prompts.date tells it "
                f"{self.settings.date}, today and after every resume."
            )
        return remarks

    def _teacher_context(self, problem: str, reference: str) -> list[int]:
        text = self._teacher.format(problem=problem, reference=reference)
        return self._encoder.encode(text, problem, reference)


@contextmanager
def refused_as_row(where: str) -> Iterator[None]:
    """Turns the TemplateError of a row's text into a DataError that names the row."""
    try:
        yield
    except TemplateError as error:
        raise DataError(f"{where}: {error} Mend the row, or leave it out.") from error
