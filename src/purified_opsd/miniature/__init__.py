"""The embedded default: a task, a tokenizer and a tiny reasoner with long chains of thought.

Its weights ship in the package.
"""

from importlib.resources import files
from pathlib import Path

from .rows import draw_rows
from .task import Split, grade

__all__ = ["BASE", "TRAINING_SET", "Split", "draw_rows", "grade"]

BASE = Path(str(files(__name__) / "base"))
"""The shipped weights, tokenizer and card: an ordinary Hugging Face folder."""

TRAINING_SET = Path(str(files(__name__) / "distillation.jsonl"))
"""Questions with references that the base has never seen, in the columns of any training set."""
