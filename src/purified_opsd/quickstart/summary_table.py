"""What the quickstart measured: a table, and a figure with the paper's quantities.  Imports no
torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from purified_opsd.evaluation.comparison import compare_candidates, newest_candidate
from purified_opsd.evaluation.comparison_notes import difference_sentences
from purified_opsd.reporting.figures import COLOURS, GREY, Curve, Panel, write_figure
from purified_opsd.reporting.runs import Estimate, Outcome, read_outcomes
from purified_opsd.reporting.terminal import markdown_table
from purified_opsd.storage.files import write_atomic
from purified_opsd.storage.run_dir import BASE

from .arm import ARMS, BENCHMARK

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
    "one's own. p is that of the paired permutation test, question by question, as `purified-opsd "
    "compare` makes it."
)

Reading = Callable[[Outcome], Estimate | None]


def summary_files(folder: Path) -> list[Path]:
    """What `write_summary` writes: the figure, its numbers, and the text."""
    return [folder / f"summary{suffix}" for suffix in (".png", ".svg", ".csv", ".md")]


def write_summary(folder: Path) -> None:
    """Writes the figure, and the table of both arms with what their differences are worth."""
    outcomes = {arm: read_outcomes(folder / arm, BENCHMARK) for arm in ARMS}
    differences = "".join(f"* {sentence}\n" for sentence in differences_in_words(folder))
    text = f"{summary_table(outcomes)}\n{differences}\n{NOTE}\n"
    write_figure(panels(outcomes), 2, folder / "summary")
    write_atomic(folder / "summary.md", text)


def differences_in_words(folder: Path) -> list[str]:
    """What the last checkpoint of each arm differs from its base by, and from the other arm's, as
    `purified-opsd compare` tests it.
    """
    evaluations = [folder / arm / "evaluation" for arm in ARMS]
    last = [(evaluation, newest_candidate(evaluation)) for evaluation in evaluations]
    pairs = [(each, (each[0], BASE)) for each in last]
    pairs.append((last[0], last[1]))
    return [
        sentence
        for first, second in pairs
        for sentence in difference_sentences(compare_candidates(first, second))
    ]


def summary_table(outcomes: dict[str, list[Outcome]]) -> str:
    """Base, then both arms' checkpoints."""
    base = [outcome for outcome in outcomes[ARMS[0]] if outcome.step == 0]
    rows = [_row("base", outcome) for outcome in base]
    for arm in ARMS:
        rows += [
            _row(f"{arm}, step {outcome.step}", outcome)
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
    return [Curve(arm, COLOURS[arm], _points(outcomes[arm], reading)) for arm in ARMS]


def _parts(outcomes: list[Outcome], quantity: str) -> list[Curve]:
    return [
        Curve(
            "Δ_ref: what the reference alone says",
            COLOURS["standard"],
            _points(outcomes, _diagnosed(f"{quantity}_ref")),
        ),
        Curve(
            "Δ_it: what the question adds",
            COLOURS["pmi"],
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
