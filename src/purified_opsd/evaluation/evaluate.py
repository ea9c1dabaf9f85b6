"""Every candidate on every benchmark, several runs of each problem: drawn, graded, and written down
as they finish.

A candidate is only a name, an identity and a way to a sampler, so nothing here knows which model is
evaluated.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from purified_opsd.data.prompts import PromptBuilder
from purified_opsd.evaluation.grading.graders import Grade, grade_all
from purified_opsd.sampling.sampler import Completion, Sampler
from purified_opsd.storage.completions import CompletionRow
from purified_opsd.storage.files import locked

from .benchmarks import Benchmark
from .checks import refuse_mixture, refuse_namesakes, refuse_repeats
from .comparison import write_results
from .progress import Progress, Watch, unwatched
from .requests import Candidate, Draw, EvaluationPlan, draws_of, settings_of
from .results import Results, read_results
from .sample_store import (
    EvaluationRequest,
    Key,
    Sample,
    SampleFolder,
    sample_of,
    write_problems,
    write_request,
)
from .summary import write_table


@dataclass
class Cell:
    """One candidate on one benchmark: what is asked of it, what is there, and the folder where it
    goes.
    """

    candidate: Candidate
    benchmark: Benchmark
    draws: Sequence[Draw]
    folder: SampleFolder
    samples: dict[Key, Sample]
    grades: dict[Key, Grade]

    @property
    def done(self) -> int:
        return sum(draw.key in self.grades for draw in self.draws)

    @property
    def accuracy(self) -> float | None:
        """None before anything is graded."""
        correct = sum(
            draw.key in self.grades and self.grades[draw.key].correct for draw in self.draws
        )
        return correct / self.done if self.done else None


def evaluate(
    candidates: Sequence[Candidate],
    benchmarks: Sequence[Benchmark],
    prompts: PromptBuilder,
    plan: EvaluationPlan,
    folder: Path,
    watch: Watch = unwatched,
) -> Results:
    """Draws and grades what `folder` does not hold yet; writes results.json and table.md there.

    Interrupted anywhere, the same call completes what is owed.  Raises RunError where two
    candidates or benchmarks share a name, the folder holds samples that cannot stand beside those
    asked for, or whole runs repeat each other, and DataError where a question is too long.
    """
    refuse_namesakes("candidates", [candidate.name for candidate in candidates])
    refuse_namesakes("benchmarks", [benchmark.name for benchmark in benchmarks])
    sets = [benchmark.first(plan.limit) for benchmark in benchmarks]
    asked = {benchmark.name: draws_of(benchmark, prompts, plan) for benchmark in sets}
    with locked(folder):
        settings = {
            (c.name, b.name): settings_of(c, b, prompts, plan) for c in candidates for b in sets
        }
        for (candidate, benchmark), wanted in settings.items():
            refuse_mixture(folder, benchmark, candidate, wanted)
        cells = [
            open_cell(
                candidate,
                benchmark,
                asked[benchmark.name],
                settings[candidate.name, benchmark.name],
                folder,
            )
            for candidate in candidates
            for benchmark in sets
        ]
        for benchmark in sets:
            questions = [question.id for question in benchmark.questions]
            write_request(
                folder / benchmark.name,
                EvaluationRequest(questions, plan.runs, dict(benchmark.record), plan.markers),
            )
            write_problems(folder / benchmark.name, {q.id: q.problem for q in benchmark.questions})
        reporter = Reporter(cells, watch)
        _write_down(folder)  # what is owed is marked before it is drawn, however this ends
        try:
            for cell in cells:
                complete(cell, prompts, plan, reporter)
        except OSError:  # where the samples found no room, results find none
            raise
        except BaseException:
            _write_down(folder)
            raise
        _write_down(folder)
    return read_results(folder)


def _write_down(folder: Path) -> None:
    """results.json and table.md, of what is there."""
    write_results(folder)
    write_table(folder)


def forget_other_weights(folder: Path, candidate: Candidate) -> None:
    """Removes what was drawn under a candidate's name from other weights than it has now.

    For a step that is taken again after a damaged checkpoint: a GPU does not repeat itself to the
    bit.
    """
    for settings in folder.glob(f"*/{candidate.name}/settings.json"):
        if SampleFolder(settings.parent).settings()["weights"] != candidate.identity:
            shutil.rmtree(settings.parent)


def open_cell(
    candidate: Candidate,
    benchmark: Benchmark,
    draws: Sequence[Draw],
    settings: Mapping[str, Any],
    folder: Path,
) -> Cell:
    """What is there of a cell."""
    samples = SampleFolder(folder / benchmark.name / candidate.name)
    samples.begin(settings)
    return Cell(candidate, benchmark, draws, samples, samples.samples(), samples.grades())


def complete(
    cell: Cell, prompts: PromptBuilder, plan: EvaluationPlan, reporter: "Reporter"
) -> None:
    """Grades what was drawn and not graded, then draws and grades what is owed, a batch at a time.

    Batches are cut from the whole list of draws, and one of which anything is owed is drawn whole,
    if rows have neighbours: a row then has those that it would have had without an interruption,
    and on CPU is the same, bit for bit.
    """
    grade_draws(
        cell, [draw for draw in cell.draws if draw.key in cell.samples.keys() - cell.grades.keys()]
    )
    refuse_repeats(cell.samples.values(), plan.runs)
    rows = plan.sampling.batch_size
    batches = [cell.draws[first : first + rows] for first in range(0, len(cell.draws), rows)]
    owed = [batch for batch in batches if any(draw.key not in cell.samples for draw in batch)]
    reporter.report(cell)
    if not owed:
        return
    with cell.candidate.sampler(plan.sampling) as sampler:
        for batch in owed:
            new = [draw for draw in batch if draw.key not in cell.samples]
            draw_batch(cell, batch, sampler, prompts)
            grade_draws(cell, new)
            refuse_repeats(cell.samples.values(), plan.runs)
            reporter.report(cell, sum(cell.samples[draw.key].tokens for draw in new))


def draw_batch(cell: Cell, batch: Sequence[Draw], sampler: Sampler, prompts: PromptBuilder) -> None:
    """Draws what is missing of a batch and writes it down as soon as the sampler hands it over."""

    def keep(completions: Mapping[int, Completion]) -> None:
        draws = [batch[index] for index in completions]
        write_samples(cell, draws, list(completions.values()), prompts)

    missing = [index for index, draw in enumerate(batch) if draw.key not in cell.samples]
    sampler.generate_missing(
        [draw.prompt for draw in batch], [draw.seed for draw in batch], missing, keep
    )


def write_samples(
    cell: Cell, draws: Sequence[Draw], completions: Sequence[Completion], prompts: PromptBuilder
) -> None:
    """Adds the completions to the cell's samples."""
    texts = prompts.tokenizer.batch_decode(
        [completion.ids for completion in completions], skip_special_tokens=True
    )
    rows = [
        CompletionRow(
            draw.question.id,
            completion.finish_reason,
            text,
            completion.ids,
            seed=draw.seed,
            extras={"run": draw.run},
        )
        for draw, completion, text in zip(draws, completions, texts, strict=True)
    ]
    cell.folder.append(rows)
    cell.samples |= {sample.key: sample for sample in map(sample_of, rows)}


def grade_draws(cell: Cell, draws: Sequence[Draw]) -> None:
    """Grades the samples of these draws and writes the grades down."""
    attempts = [
        (draw.question.problem, draw.question.answer, cell.samples[draw.key].text) for draw in draws
    ]
    grades = dict(
        zip([draw.key for draw in draws], grade_all(cell.benchmark.grader, attempts), strict=True)
    )
    cell.folder.append_grades(grades)
    cell.grades |= grades


class Reporter:
    """Tells the watch how far all cells are, and how fast this call draws."""

    def __init__(self, cells: Sequence[Cell], watch: Watch):
        self.cells, self.watch = cells, watch
        self.total = sum(len(cell.draws) for cell in cells)
        self.start, self.tokens = time.monotonic(), 0

    def report(self, cell: Cell, tokens: int = 0) -> None:
        """After another batch of `tokens` tokens of a cell."""
        self.tokens += tokens
        rate = self.tokens / max(time.monotonic() - self.start, 1e-9)
        done = sum(cell.done for cell in self.cells)
        self.watch(
            Progress(
                cell.candidate.name, cell.benchmark.name, done, self.total, cell.accuracy, rate
            )
        )
