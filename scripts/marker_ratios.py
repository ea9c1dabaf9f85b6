"""What became of the markers and the accuracy: each checkpoint of a quickstart against its base,
question by question.

python scripts/marker_ratios.py runs/quickstart runs/quickstart-1
"""

import argparse
from pathlib import Path

import numpy as np

from purified_opsd.analysis.markers import count_substrings
from purified_opsd.reporting.terminal import markdown_table
from purified_opsd.storage.completions import read_completions
from purified_opsd.storage.files import read_jsonl

ARMS = ("pmi", "standard")
DRAWS = 10_000


def per_question(candidate: Path) -> tuple[np.ndarray, np.ndarray]:
    """Markers and verdicts (1 or 0) of a candidate's completions, in the order of the questions'
    ids.
    """
    samples = {row.id: row.text for row in read_completions(candidate / "samples.jsonl")}
    grades = read_jsonl(candidate / "grades.jsonl", "id", "verdict")
    verdicts = {row["id"]: row["verdict"] for row in grades}
    ids = sorted(samples)
    markers = [count_substrings([samples[id]]).total() for id in ids]
    return np.array(markers, dtype=float), np.array(
        [verdicts[id] == "correct" for id in ids], dtype=float
    )


def interval(values: np.ndarray) -> str:
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{low:.2f} to {high:.2f}"


def compare(base: Path, checkpoint: Path, draw: np.random.Generator) -> list[str]:
    """Ratio of markers and difference of accuracy, with 95 % intervals from resampled questions."""
    (base_markers, base_right), (markers, right) = per_question(base), per_question(checkpoint)
    resampled = draw.integers(len(markers), size=(DRAWS, len(markers)))
    ratios = markers[resampled].mean(1) / base_markers[resampled].mean(1)
    differences = 100 * (right - base_right)[resampled].mean(1)
    return [
        f"{base_markers.mean():.2f}",
        f"{markers.mean():.2f}",
        f"{markers.mean() / base_markers.mean():.2f} ({interval(ratios)})",
        f"{100 * base_right.mean():.1f}",
        f"{100 * right.mean():.1f}",
        f"{100 * (right - base_right).mean():+.1f} ({interval(differences)})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("quickstarts", nargs="+", type=Path)
    rows, draw = [], np.random.default_rng(0)
    for folder in parser.parse_args().quickstarts:
        for arm in ARMS:
            candidates = folder / arm / "evaluation" / "countdown"
            for checkpoint in sorted(candidates.glob("step-*")):
                name = f"{folder.name}, {arm}, {int(checkpoint.name.removeprefix('step-'))}"
                rows.append([name, *compare(candidates / "base", checkpoint, draw)])
    header = (
        "run, arm, step",
        "markers of base",
        "markers",
        "ratio (95 %)",
        "accuracy of base",
        "accuracy",
        "difference (95 %)",
    )
    print(markdown_table(header, rows), end="")


if __name__ == "__main__":
    main()
