"""Questions, references, and the contexts made of them."""

from .examples import AfterThink, AnswerOnly, Columns, Example, Examples, TrainingSet, WholeSolution, load_examples
from .prompts import WORDING, Contexts, PromptBuilder, Prompts, TemplateError
from .rows import DataError
from .seeds import seed_for

__all__ = [
    "WORDING",
    "AfterThink",
    "AnswerOnly",
    "Columns",
    "Contexts",
    "DataError",
    "Example",
    "Examples",
    "PromptBuilder",
    "Prompts",
    "TemplateError",
    "TrainingSet",
    "WholeSolution",
    "load_examples",
    "seed_for",
]
