"""What of an arm need not be done again: measurements that are whole and of the weights that it has
now, and pages that are newer than what they show.  Imports no torch.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from purified_opsd.errors import RunError
from purified_opsd.evaluation.sample_store import sample_folders
from purified_opsd.reporting.runs import read_outcomes
from purified_opsd.storage.completions import read_completion
from purified_opsd.storage.files import count_lines, read_json
from purified_opsd.storage.run_dir import BASE, is_step_name, step_of

ADAPTER = "adapter/adapter_model.safetensors"
"""The weights of a checkpoint, as its manifest names them."""


def evaluated(run: Path, benchmark: str, questions: int) -> bool:
    """Are base and checkpoints evaluated on so many questions, once each?"""

    def scored() -> bool:
        scores = {o.step: o.score for o in read_outcomes(run, benchmark) if o.score}
        whole = {
            step
            for step, score in scores.items()
            if not score["partial"] and score["samples"] == questions
        }
        folders = sample_folders(run / "evaluation" / benchmark)
        weights = {each.folder.name: each.settings()["weights"] for each in folders}
        return _steps(run) <= whole and _are_of_now(run, weights)

    return _holds(scored)


def diagnosed(run: Path, samples: int) -> bool:
    """Are base and checkpoints diagnosed, on so many completions each?"""

    def measured() -> bool:
        files = list((run / "diagnosis").glob("*.json"))
        counts = {file.stem: count_lines(file.with_suffix(".jsonl")) for file in files}
        weights = {file.stem: read_json(file, "settings")["settings"]["weights"] for file in files}
        return set(counts.values()) == {samples} and _are_of_now(run, weights)

    return _holds(measured)


def read_under_microscope(run: Path, samples: int) -> bool:
    """Are so many completions of base and checkpoints read, and on the page?"""

    def read() -> bool:
        files = list((run / "microscope").glob("*/*.json"))
        counts = {file.parent.name: len(list(file.parent.glob("*.json"))) for file in files}
        rows = {file.parent.name: read_completion(file, "settings") for file in files}
        weights = {name: row.extras["settings"]["weights"] for name, row in rows.items()}
        whole = set(counts.values()) == {samples} and _are_of_now(run, weights)
        return whole and newer([run / "microscope.html"], files)

    return _holds(read)


def newer(made: Iterable[Path], sources: Iterable[Path]) -> bool:
    """Is all that was made there, and no older than anything that it was made from?"""
    made = list(made)
    if not made or not all(file.exists() for file in made):
        return False
    oldest = min(file.stat().st_mtime_ns for file in made)
    return all(file.stat().st_mtime_ns <= oldest for file in sources)


def measurements(run: Path) -> list[Path]:
    """Every file of a run that a report of it shows."""
    parts = ("*.yaml", "*.json", "*.jsonl", "evaluation/**/*", "diagnosis/*", "microscope/**/*")
    return [file for part in parts for file in run.glob(part) if file.is_file()]


def program_files() -> list[Path]:
    """The files of this package that write the pages: another version may write other ones."""
    package = Path(__file__).parents[1]
    rooms = ("analysis", "evaluation", "quickstart", "reporting")
    files = [file for room in rooms for file in (package / room).rglob("*")]
    return [file for file in files if file.suffix in (".py", ".html", ".css", ".js")]


def linked_files(page: Path) -> list[Path]:
    """The page, and the figures beside it that it links to."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    names = re.findall(rf'href="({re.escape(page.stem)}_files/[^"]+)"', text)
    return [page, *(page.parent / name for name in names)]


def _holds(question: Callable[[], bool]) -> bool:
    """The answer; no where a file is damaged, since the command that wrote it says so better."""
    try:
        return question()
    except (RunError, KeyError):
        return False


def _steps(run: Path) -> set[int]:
    """The base, which is 0, and every checkpoint."""
    return {0, *(step_of(name) for name in _adapters(run))}


def _adapters(run: Path) -> dict[str, str]:
    """The digest of each checkpoint's weights, by the name of its step."""
    manifests = (run / "checkpoints").glob("*/manifest.json")
    return {
        file.parent.name: read_json(file, ADAPTER)[ADAPTER]["sha256"]
        for file in manifests
        if is_step_name(file.parent.name)
    }


def _are_of_now(run: Path, weights: Mapping[str, str]) -> bool:
    """Are the weights under which numbers were written those of the base and of each checkpoint as
    it is now?
    """
    base = weights[BASE]
    return all(weights[name] == f"{base} {digest}" for name, digest in _adapters(run).items())
