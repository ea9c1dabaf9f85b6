"""A diagnosis as a table: the numbers of Fig. 3 for each model under each weighing of the
vocabulary, with their errors.
"""

from collections.abc import Mapping
from pathlib import Path

from purified_opsd.reporting.runs import Estimate, read_diagnoses
from purified_opsd.reporting.terminal import markdown_table
from purified_opsd.storage.run_dir import step_name

HEADER = (
    "model",
    "vocabulary",
    "cos Δ_ref",
    "cos Δ_it",
    "‖Δ_ref‖/‖Δ_total‖",
    "‖Δ_it‖/‖Δ_total‖",
)
NUMBERS = ("cos_ref", "cos_it", "norm_fraction_ref", "norm_fraction_it")
WEIGHINGS = {
    "": "every row alike",
    "weighted_": "by probability",
    "top64_": "64 likeliest",
}
"""By what the numbers' names begin with; the first is the paper's."""
NOTE = (
    "Means over completions ± one standard error. cos: where a part of the teacher's pull Δ_total "
    "points; ‖·‖: how large it is. Δ_ref is what the reference alone says, Δ_it what the question "
    "adds (Fig. 3; docs/metrics.md)."
)


def diagnosis_table(run: Path) -> str:
    """A row for each model and weighing, the base first; aligned, in Markdown."""
    rows = [
        [step_name(step), words, *_cells(numbers, prefix)]
        for step, numbers in read_diagnoses(run).items()
        for prefix, words in WEIGHINGS.items()
    ]
    return markdown_table(HEADER, rows)


def _cells(numbers: Mapping[str, Estimate], prefix: str) -> list[str]:
    return [numbers[f"{prefix}{name}"].text(digits=3) for name in NUMBERS]
