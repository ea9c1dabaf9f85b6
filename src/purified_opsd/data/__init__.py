"""Questions, references, and the contexts made of them."""

from .examples import Columns, Example, Examples, TrainingSet, load_examples
from .preparation import Check, Finding, LongReference, Prepared, prepare
from .prepared import beside, write_prepared
from .prompts import WORDING, Contexts, PromptBuilder, Prompts, TemplateError
from .references import AfterThink, AnswerOnly, WholeSolution
from .rows import DataError
from .seeds import seed_for

__all__ = [
    "WORDING",
    "AfterThink",
    "AnswerOnly",
    "Check",
    "Columns",
    "Contexts",
    "DataError",
    "Example",
    "Examples",
    "Finding",
    "LongReference",
    "Prepared",
    "PromptBuilder",
    "Prompts",
    "TemplateError",
    "TrainingSet",
    "WholeSolution",
    "beside",
    "load_examples",
    "prepare",
    "seed_for",
    "write_prepared",
]
