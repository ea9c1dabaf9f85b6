"""Verbs that measure what came of a run: evaluate, compare, regrade, diagnose."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from .app import RunFolder, app, run_of, settings_errors

if TYPE_CHECKING:
    from purified_opsd.evaluation.benchmarks import AnswerColumns
    from purified_opsd.sampling.sampler import Engine
    from purified_opsd.training.checkpoint_models import LoadedModels
    from purified_opsd.training.config import TrainingConfig

Dtype = Literal["auto", "bfloat16", "float32"]


@app.command(context_settings={"allow_extra_args": True})
def evaluate(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            help="A run directory (base and every checkpoint), or a model's hub id or folder."
        ),
    ],
    benchmarks: Annotated[
        list[str],
        typer.Option(
            help="aime24 aime25 hmmt25 countdown, FILE, ORG/SET, or NAME=FILE; several at once."
        ),
    ],
    runs: Annotated[int, typer.Option(help="Completions of each problem.")] = 12,
    limit: Annotated[
        int | None, typer.Option(help="The first problems of each benchmark only.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="A PEFT adapter's folder, for a model: evaluates both.")
    ] = None,
    step: Annotated[
        list[int] | None,
        typer.Option(help="Which checkpoints of a run, 0 for its base; all if left out."),
    ] = None,
    sampling: Annotated[
        str | None, typer.Option(help="card or upstream; the model's card where it is known.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Instead of the preset's.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Instead of the preset's.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Instead of the preset's; 0: no limit.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Instead of the preset's.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Sequences generated side by side.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    columns: Annotated[
        list[str] | None,
        typer.Option(help="problem=COLUMN answer=COLUMN id=COLUMN, of a set of your own."),
    ] = None,
    markers: Annotated[
        str,
        typer.Option(
            help="Epistemic markers of your own to count, with commas between; a run's if left out."
        ),
    ] = "",
    dtype: Annotated[
        Dtype, typer.Option(help="Of a model that is no run; a run's is its own.")
    ] = "auto",
    server: Annotated[
        list[str] | None, typer.Option(help="vLLM servers to draw from, several at once: URL URL.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where samples and results go; RUN/evaluation if left out.")
    ] = None,
) -> None:
    """Accuracy of a run's base and checkpoints, or of a model, with its error.

    Interrupted anywhere, the same command completes what is owed.
    """
    is_run = (Path(subject) / "config.yaml").is_file()
    folder = output or (
        Path(subject) / "evaluation" if is_run else Path("evaluations") / Path(subject).name
    )
    with completable(folder):
        from purified_opsd.evaluation.benchmarks import load_benchmark
        from purified_opsd.evaluation.config import SamplingOverrides
        from purified_opsd.evaluation.evaluate import evaluate as evaluate_candidates
        from purified_opsd.evaluation.progress import progress_bar
        from purified_opsd.evaluation.requests import EvaluationRequest
        from purified_opsd.evaluation.summary import table
        from purified_opsd.sampling.hf import HF
        from purified_opsd.sampling.vllm_servers import VLLMServers

        urls = [*(server or []), *filter(_is_url, context.args)]
        others = [word for word in context.args if not _is_url(word)]
        words, mapped = _benchmarks_and_columns([*benchmarks, *others], columns or [])
        run = run_of(Path(subject)) if is_run else None
        given = SamplingOverrides(sampling, temperature, top_p, top_k, max_new_tokens, batch_size)
        with settings_errors():
            choice = given.over(run.evaluation.sampling) if run else given
            request = EvaluationRequest(
                choice.resolve(run.model.path if run else subject),
                runs,
                limit,
                seed,
                _markers(markers, run),
            )
            engine = VLLMServers(tuple(urls)) if urls else HF()
        sets = [load_benchmark(word, mapped) for word in words]
        bare = Bare(subject, dtype, adapter)
        loaded = _subject_of(run, step, bare, request.sampling.max_new_tokens, engine)
        typer.echo(f"{request.sampling}, {runs} runs")
        try:
            with progress_bar() as show:
                results = evaluate_candidates(
                    loaded.candidates, sets, loaded.prompts, request, folder, show
                )
        finally:
            if (
                not run
                and (folder / "results.json").exists()
                and not (folder / "subject.json").exists()
            ):
                _record(folder, bare)
    typer.echo(f"{table(results)}\nEverything is in {folder}.")


@app.command()
def compare(
    first: Annotated[
        Path, typer.Argument(help="A run that was evaluated, or the folder of an evaluation.")
    ],
    second: Annotated[Path, typer.Argument(help="The one it is compared with.")],
    step: Annotated[
        int | None,
        typer.Option(
            help="Which checkpoint of both, 0 for the base; the last of each if left out."
        ),
    ] = None,
) -> None:
    """What the difference of two evaluated runs is worth: a paired test by problem, with a 95 %
    interval.
    """
    from purified_opsd.evaluation.comparison import compare_candidates, newest_candidate
    from purified_opsd.evaluation.summary import comparison_table

    folders = [
        folder / "evaluation" if (folder / "evaluation").is_dir() else folder
        for folder in (first, second)
    ]
    names = [
        newest_candidate(folder) if step is None else f"step-{step:06d}" if step else "base"
        for folder in folders
    ]
    comparison = compare_candidates((folders[0], names[0]), (folders[1], names[1]))
    typer.echo(comparison_table(comparison), nl=False)


@app.command()
def regrade(
    folder: Annotated[
        Path, typer.Argument(help="A run that was evaluated, or the folder of an evaluation.")
    ],
) -> None:
    """Grade the samples of an evaluation again, without drawing any."""
    from purified_opsd.evaluation.regrade import regrade as grade_again
    from purified_opsd.evaluation.summary import table

    place = folder / "evaluation" if (folder / "evaluation").is_dir() else folder
    changes, results = grade_again(place)
    for (before, after), count in sorted(changes.items()):
        typer.echo(f"{count} from {before} to {after}")
    typer.echo(f"{sum(changes.values())} grades changed.\n\n{table(results)}", nl=False)


@app.command()
def diagnose(
    folder: RunFolder,
    samples: Annotated[int, typer.Option(help="Completions of each.")] = 100,
    seed: Annotated[int, typer.Option(help="Decides questions and completions.")] = 0,
    markers: Annotated[
        str,
        typer.Option(
            help="Epistemic markers of your own to count, with commas between; the run's if left "
            "out."
        ),
    ] = "",
) -> None:
    """What drives the teacher: the decomposition of Fig. 3 for the base and every checkpoint, on
    completions of their own.
    """
    from purified_opsd.inspection.diagnose import diagnose_run

    run = run_of(folder)
    run = replace(run, markers=_markers(markers, run))
    typer.echo(f"Diagnosed. Everything is in {diagnose_run(run, samples, seed)}.")


def _markers(words: str, run: "TrainingConfig | None") -> tuple[str, ...]:
    """`let me think, let us see` as two markers; none: the run's own."""
    return tuple(filter(None, map(str.strip, words.split(",")))) or (run.markers if run else ())


def _benchmarks_and_columns(
    words: list[str], columns: list[str]
) -> "tuple[list[str], AnswerColumns | None]":
    """The words that follow `--benchmarks` and `--columns`, told apart: `problem=COLUMN` and the
    like are columns.
    """
    from purified_opsd.errors import SettingsError
    from purified_opsd.evaluation.benchmarks import AnswerColumns

    roles = [f.name for f in fields(AnswerColumns)]
    named = [word for word in words if word.partition("=")[0] in roles]
    pairs = [word.partition("=") for word in [*columns, *named]]
    wrong = next((role for role, _, column in pairs if role not in roles or not column), None)
    if wrong is not None:
        raise SettingsError(
            f"--columns {wrong} names no column: write "
            f"{', '.join(f'{role}=COLUMN' for role in roles)}."
        )
    mapped = AnswerColumns(**{role: column for role, _, column in pairs}) if pairs else None
    return [word for word in words if word not in named], mapped


class Bare(NamedTuple):
    """A model that is no run."""

    path: str
    dtype: Dtype
    adapter: Path | None


def _subject_of(
    run: "TrainingConfig | None",
    steps: list[int] | None,
    bare: Bare,
    max_new_tokens: int,
    engine: "Engine",
) -> "LoadedModels":
    """What is evaluated, loaded."""
    from purified_opsd.data.prompts import Prompts
    from purified_opsd.errors import SettingsError
    from purified_opsd.policy.model import Model
    from purified_opsd.training.checkpoint_models import (
        load_adapted_model,
        load_bare_model,
        load_run_models,
    )

    if run:
        if bare.adapter:
            raise SettingsError(
                f"--adapter goes with a model, and {bare.path} is a run with adapters of its own. "
                "Choose them by --step."
            )
        return load_run_models(run, run.output_dir, steps, max_new_tokens, engine)
    if steps:
        raise SettingsError(
            f"--step {steps[0]} is of a run, and {bare.path} is none: it has no config.yaml. Leave "
            "--step out."
        )
    model = Model(bare.path, dtype=bare.dtype)
    if bare.adapter:
        return load_adapted_model(model, bare.adapter, Prompts(), max_new_tokens, engine)
    return load_bare_model(model, Prompts(), max_new_tokens, engine)


def _is_url(word: str) -> bool:
    return word.startswith(("http://", "https://"))


def _record(folder: Path, bare: Bare) -> None:
    """Which model an evaluation is of, where no run's config.yaml says it."""
    from purified_opsd.storage.files import write_atomic

    write_atomic(folder / "subject.json", json.dumps(bare._asdict(), default=str, indent=2) + "\n")


@contextmanager
def completable(folder: Path) -> Iterator[None]:
    """SIGINT, SIGTERM and servers that are lost end an evaluation: what was drawn is on the disk,
    and the same command draws the rest.
    """
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    def rest() -> str:
        drawn = (folder / "results.json").exists()
        return (
            f"What was drawn is in {folder}, PARTIAL where samples are owed"
            if drawn
            else "Nothing was drawn yet"
        )

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        if caught:  # libraries make other errors of a KeyboardInterrupt
            typer.echo(f"\nStopped. {rest()}; the same command draws the rest.", err=True)
            raise typer.Exit(128 + caught[0]) from error
        from purified_opsd.errors import ServersLost

        if isinstance(error, ServersLost):
            raise ServersLost(f"{error} {rest()}; the same command draws the rest.") from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
