"""The base's card: how it was made and what was measured, as card.json and as CARD.md."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from purified_opsd.miniature.rows import draw_rows
from purified_opsd.miniature.task import Split

from .measurement import CONTEXTS, FREE, NO_CHECKS, NO_MARKERS, CardSampling, Measurement, measure
from .pretraining import Pretraining

TEMPERATURES = (1.0, 0.6, 0.0)
EVALUATION_SEED = 0

_COLUMNS = (
    "context",
    "temperature",
    "accuracy, %",
    "at first, %",
    "tokens",
    "ended, %",
    "markers",
    "per 1,000 tokens",
    "checks",
    "that catch, %",
    "slips",
    "mended, %",
)
_EXPLANATION = """\
Accuracies are over {questions} held-out questions, one completion of at most {new_tokens} tokens
each; ± is the standard error over questions. "At first": right without a second attempt. Tokens,
markers, checks and slips are means per completion. A check works a result out again ("Hmm, check:
21."), and catches if it puts the right result for a wrong one. A slip is a wrong result of a
written operation; it is mended if a check that puts it right follows at once. "No checks" and "no
markers": the vocabulary entries that carry a check, or any marker, may not be sampled. The habits
of the training traces were written down, not observed: who has seen a reference mostly goes
straight to the answer, who has not searches and checks. What is measured here says nothing about
large models.
"""


@dataclass(frozen=True)
class Card:
    """Everything that is known about one build of the base."""

    training: Pretraining
    parameters: int
    tokens: int
    """Read in training, prompts included."""
    training_seconds: float
    measurements: tuple[Measurement, ...]

    def save(self, folder: Path) -> None:
        """Writes card.json and CARD.md."""
        (folder / "card.json").write_text(
            json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8"
        )
        (folder / "CARD.md").write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """The card in Markdown."""
        made = (
            f"# The miniature's base\n\nA Qwen3 of {self.parameters:,} parameters that plays "
            f"Countdown, trained from nothing on written search traces: {self.training.steps:,} "
            f"steps, {self.tokens / 1e6:.1f} M tokens, {self.training_seconds / 60:.0f} minutes on "
            f"one processor core, seed {self.training.seed}.\n\n"
        )
        explanation = _EXPLANATION.format(
            questions=self.measurements[0].questions, new_tokens=CardSampling.new_tokens
        )
        lines = [_row(_COLUMNS), _row(("---",) * len(_COLUMNS)), *map(_line, self.measurements)]
        return f"{made}{explanation}\n" + "\n".join(lines) + "\n"


def measure_folder(folder: Path, questions: int) -> tuple[Measurement, ...]:
    """Every line of the card, measured on the saved weights as a user loads them."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    drawn = draw_rows(Split.EVALUATION, EVALUATION_SEED, questions)
    free = [
        measure(model, tokenizer, drawn, context, CardSampling(temperature))
        for context in CONTEXTS
        for temperature in TEMPERATURES
    ]
    curbed = [
        measure(model, tokenizer, drawn, "base", CardSampling(1.0, manner=manner))
        for manner in (NO_CHECKS, NO_MARKERS)
    ]
    return (*free, *curbed)


def _line(measured: Measurement) -> str:
    context = measured.context
    if measured.manner != FREE.name:
        context += f", {measured.manner}"
    accuracy = f"{100 * measured.accuracy:.1f} ± {100 * measured.standard_error:.1f}"
    cells = (
        context,
        f"{measured.temperature:g}" if measured.temperature else "greedy",
        accuracy,
        f"{100 * measured.right_at_first:.1f}",
        f"{measured.mean_tokens:.0f}",
        f"{100 * measured.ended:.1f}",
        f"{measured.markers:.2f}",
        f"{measured.markers_per_1000_tokens:.0f}",
        f"{measured.checks:.2f}",
        _percent(measured.checks_that_catch),
        f"{measured.slips:.2f}",
        _percent(measured.slips_mended),
    )
    return _row(cells)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.0f}"
