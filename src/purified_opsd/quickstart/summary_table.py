"""What the quickstart measured: a table, and a figure with the paper's quantities.  Imports no
torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from purified_opsd.reporting.figures import COLOURS, GREY, Curve, Panel, write_figure
from purified_opsd.reporting.runs import Estimate, Outcome, read_outcomes
from purified_opsd.reporting.terminal import markdown_table
from purified_opsd.storage.files import write_atomic

from .arm import ARMS, BENCHMARK

NAMES = {"pmi": "purified", "standard": "standard"}
HEADER = (
    "",
    "accuracy, %",
    "tokens",
    "cut off, %",
    "markers",
    "per 1,000 tokens",
    "cos Δ_ref",
    "cos Δ_it",
    "‖Δ_ref‖/‖Δ_total‖",
)
NOTE = (
    "± is one standard error: over questions for accuracy and markers, over completions for the "
    "rest. Accuracy and markers are of one completion to each question, on which neither base nor "
    "student was trained; cos and ‖·‖ are those of the paper's Fig. 3, on completions of each "
    "one's own."
)

Reading = Callable[[Outcome], Estimate | None]


def write_summary(folder: Path) -> tuple[str, list[Path]]:
    """The table of both arms, and the files it and the figure were written to."""
    outcomes = {arm: read_outcomes(folder / arm, BENCHMARK) for arm in ARMS}
    text = summary_table(outcomes)
    write_atomic(folder / "summary.md", f"{text}\n{NOTE}\n")
    return text, [*write_figure(panels(outcomes), 2, folder / "summary"), folder / "summary.md"]


def summary_table(outcomes: dict[str, list[Outcome]]) -> str:
    """Base, then both arms' checkpoints."""
    base = [outcome for outcome in outcomes[ARMS[0]] if outcome.step == 0]
    rows = [_row("base", outcome) for outcome in base]
    for arm in ARMS:
        rows += [
            _row(f"{NAMES[arm]}, step {outcome.step}", outcome)
            for outcome in outcomes[arm]
            if outcome.step
        ]
    return markdown_table(HEADER, rows)


def panels(outcomes: dict[str, list[Outcome]]) -> list[Panel]:
    """Accuracy, markers, direction and size of what drives the teacher, by step."""
    return [
        Panel("Accuracy on held-out questions", "share right", _by_arm(outcomes, _accuracy)),
        Panel("Epistemic markers", "per completion", _by_arm(outcomes, _markers)),
        Panel(
            "Direction of the teacher's pull (standard)",
            "cosine to Δ_total",
            _parts(outcomes["standard"], "cos"),
        ),
        Panel(
            "Size of its parts (standard)",
            "norm / ‖Δ_total‖",
            _parts(outcomes["standard"], "norm_fraction"),
        ),
    ]


def _accuracy(outcome: Outcome) -> Estimate | None:
    return outcome.scored("accuracy", "interval")


def _markers(outcome: Outcome) -> Estimate | None:
    return outcome.scored("markers", "markers_interval")


def _by_arm(outcomes: dict[str, list[Outcome]], reading: Reading) -> list[Curve]:
    return [
        Curve(NAMES[arm], COLOURS[f"opsd-{arm}"], _points(outcomes[arm], reading)) for arm in ARMS
    ]


def _parts(outcomes: list[Outcome], quantity: str) -> list[Curve]:
    return [
        Curve(
            "Δ_ref: what the reference alone says",
            COLOURS["opsd-standard"],
            _points(outcomes, _diagnosed(f"{quantity}_ref")),
        ),
        Curve(
            "Δ_it: what the question adds",
            COLOURS["opsd-pmi"],
            _points(outcomes, _diagnosed(f"{quantity}_it")),
        ),
        *(
            [Curve("‖Δ_total‖", GREY, [(o.step, 1.0, None) for o in outcomes], dashed=True)]
            if quantity != "cos"
            else []
        ),
    ]


def _diagnosed(name: str) -> Reading:
    return lambda outcome: outcome.diagnosis.get(name)


def _points(
    outcomes: Sequence[Outcome], reading: Reading
) -> list[tuple[float, float, float | None]]:
    return [
        (outcome.step, estimate.mean, estimate.error)
        for outcome in outcomes
        if (estimate := reading(outcome))
    ]


def _row(name: str, outcome: Outcome) -> list[str]:
    cells = [
        (_accuracy(outcome), 100, 1),
        (outcome.scored("mean_tokens"), 1, 0),
        (outcome.scored("truncation_rate"), 100, 1),
        (_markers(outcome), 1, 2),
        (outcome.scored("markers_per_1000_tokens"), 1, 1),
        *(
            (outcome.diagnosis.get(number), 1, 2)
            for number in ("cos_ref", "cos_it", "norm_fraction_ref")
        ),
    ]
    return [
        name,
        *(
            estimate.text(scale, digits) if estimate else "not measured"
            for estimate, scale, digits in cells
        ),
    ]
