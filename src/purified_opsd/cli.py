"""The command line: one verb a function.  What takes long to import is imported by the verb that needs it."""

import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from purified_opsd.evaluation import AnswerColumns
    from purified_opsd.training import Run
    from purified_opsd.training.candidates import Subject

app = typer.Typer(
    help="On-policy self-distillation for long chain-of-thought models, with the purified PMI target.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

OTHER_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Every setting can be given by its dotted name, so verbs that train take options they do not list."""

Dtype = Literal["auto", "bfloat16", "float32"]

RunFolder = Annotated[Path, typer.Argument(help="A run directory.")]


@app.command(context_settings=OTHER_SETTINGS)
def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A YAML file, or a recipe's name (see `purified-opsd recipes`).")],
    model: Annotated[str | None, typer.Option(help="Hub id or folder of the model.")] = None,
    data: Annotated[str | None, typer.Option(help="Training set: a file, a folder or a hub id.")] = None,
    output_dir: Annotated[str | None, typer.Option(help="Where the run goes.")] = None,
    steps: Annotated[str | None, typer.Option(help="Optimizer steps.")] = None,
    seed: Annotated[str | None, typer.Option(help="Seed of everything random.")] = None,
) -> None:
    """Train a LoRA adapter.

    Every other setting by its dotted name, such as --optimizer.learning-rate 1e-4 or --target.clip 5;
    `purified-opsd recipes NAME` shows them all.
    """
    from purified_opsd.config import build_run, located, merge, read_overrides, to_yaml
    from purified_opsd.training.start import start_run

    short = {"model": model, "data": data, "output_dir": output_dir, "steps": steps, "seed": seed}
    settings = merge(_settings_of(recipe), {name: value for name, value in short.items() if value is not None})
    run = located(build_run(merge(settings, read_overrides(context.args))))
    with _resumable(run.output_dir):
        start_run(run, to_yaml(run))


@app.command(context_settings=OTHER_SETTINGS)
def resume(
    context: typer.Context,
    folder: RunFolder,
    steps: Annotated[str | None, typer.Option(help="Go on to this many steps in all.")] = None,
) -> None:
    """Go on with a run from its newest good checkpoint, as if it had never stopped.

    Settings that do not change what the student is after can be given anew by their dotted names, such as
    --micro-batch-tokens 4096 after running out of memory.
    """
    from purified_opsd.config import build_run, merge, read_overrides, to_mapping, to_yaml
    from purified_opsd.training.start import resume_run

    overrides = read_overrides(context.args) | ({"steps": steps} if steps else {})
    run = build_run(merge(to_mapping(_run_of(folder)), overrides))
    with _resumable(folder):
        resume_run(run, folder, to_yaml(run))


@app.command()
def diagnose(
    folder: RunFolder,
    samples: Annotated[int, typer.Option(help="Completions of each.")] = 100,
    seed: Annotated[int, typer.Option(help="Decides questions and completions.")] = 0,
) -> None:
    """What drives the teacher: the decomposition of Fig. 3 for the base and every checkpoint, on completions of their own."""
    from purified_opsd.training.diagnosis import diagnose_run

    typer.echo(f"Diagnosed. Everything is in {diagnose_run(_run_of(folder), samples, seed)}.")


@app.command()
def quickstart(
    output_dir: Annotated[Path, typer.Option(help="Where it goes; given again, it goes on.")] = Path("runs/quickstart"),
    steps: Annotated[int, typer.Option(min=3, help="Training steps of each arm.")] = 60,
    questions: Annotated[int, typer.Option(min=2, help="Held-out questions of the evaluation.")] = 300,
    samples: Annotated[int, typer.Option(min=2, help="Completions of the diagnosis.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """The paper in miniature on two processor cores: train, evaluate and diagnose both arms, side by side."""
    from purified_opsd.quickstart import NOTE, ArmFailed, Quickstart, run_quickstart, write_summary

    again = f"Go on with: purified-opsd {' '.join(sys.argv[1:])}"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run_quickstart(Quickstart(steps, questions, samples, seed), output_dir)
    except (KeyboardInterrupt, SystemExit) as stop:
        typer.echo(f"Stopped; both arms are saved. {again}", err=True)
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from stop
    except (ArmFailed, TimeoutError) as error:
        typer.echo(f"purified-opsd: {error}\n{again}", err=True)
        raise typer.Exit(error.exit_code if isinstance(error, ArmFailed) else 1) from error
    text, files = write_summary(output_dir)
    typer.echo(f"\n{text}\n{NOTE}\n\nOpen {files[0]}. What the students wrote: {output_dir}/*/rollouts/.")


@app.command()
def export(
    folder: RunFolder,
    output: Annotated[Path, typer.Option(help="Where the merged model goes; must not exist.")],
    step: Annotated[int | None, typer.Option(help="Which checkpoint; the newest good one if left out.")] = None,
) -> None:
    """Merge a checkpoint's adapter into its base (in float32) and save it in the base's dtype."""
    from purified_opsd.config import SettingsError
    from purified_opsd.policy.export import export as export_model
    from purified_opsd.training import checkpoint_folder, verify

    if output.exists():
        raise SettingsError(f"{output} exists already; nothing was written. Give another --output.")
    run = _run_of(folder)
    checkpoint = checkpoint_folder(folder, _checkpoint_step(folder, step))
    verify(checkpoint)
    lost = export_model(run.model, checkpoint / "adapter", output)
    typer.echo(f"{output}: {Path(run.model.path).name} with the adapter of {checkpoint.name}.")
    typer.echo(f"Rounding to the saved dtype changed the update by {lost:.1%} of its norm.")
    if lost > 0.1:
        typer.echo(f"To serve the model as it was trained, load {run.model.path} with the adapter {checkpoint / 'adapter'}.")


@app.command(context_settings={"allow_extra_args": True})
def evaluate(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="A run directory (base and every checkpoint), or a model's hub id or folder.")],
    benchmarks: Annotated[
        list[str], typer.Option(help="aime24 aime25 hmmt25 countdown, FILE, ORG/SET, or NAME=FILE; several at once.")
    ],
    runs: Annotated[int, typer.Option(help="Completions of each problem.")] = 12,
    limit: Annotated[int | None, typer.Option(help="The first problems of each benchmark only.")] = None,
    step: Annotated[list[int] | None, typer.Option(help="Which checkpoints of a run, 0 for its base; all if left out.")] = None,
    sampling: Annotated[str | None, typer.Option(help="card or upstream; the model's card where it is known.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Instead of the preset's.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Instead of the preset's.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Instead of the preset's; 0: no limit.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Instead of the preset's.")] = None,
    rows: Annotated[int | None, typer.Option(help="Sequences generated side by side.")] = None,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    columns: Annotated[list[str] | None, typer.Option(help="problem=COLUMN answer=COLUMN id=COLUMN, of a set of your own.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="Of a model that is no run; a run's is its own.")] = "auto",
    output: Annotated[Path | None, typer.Option(help="Where samples and results go; RUN/evaluation if left out.")] = None,
) -> None:
    """Accuracy of a run's base and checkpoints, or of a model, with its error.

    Interrupted anywhere, the same command completes what is owed.
    """
    from purified_opsd.evaluation import Plan, load_benchmark, progress_bar, table
    from purified_opsd.evaluation import evaluate as evaluate_candidates
    from purified_opsd.recipes import evaluation_sampling

    words, mapped = _benchmarks_and_columns([*benchmarks, *context.args], columns or [])
    is_run = (Path(subject) / "config.yaml").is_file()
    run = _run_of(Path(subject)) if is_run else None
    chosen = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "max_new_tokens": max_new_tokens, "rows": rows}
    given = {name: value for name, value in chosen.items() if value is not None}
    with _settings_errors():
        preset = evaluation_sampling(sampling, run.model.path if run else subject)
        plan = Plan(replace(preset, **given), runs, limit, seed)
    sets = [load_benchmark(word, mapped) for word in words]
    folder = output or (Path(subject) / "evaluation" if is_run else Path("evaluations") / Path(subject).name)
    loaded = _subject_of(run, subject, dtype, step, plan.sampling.max_new_tokens)
    typer.echo(f"{plan.sampling}, {runs} runs")
    with _completable(folder), progress_bar() as watch:
        evaluate_candidates(loaded.candidates, sets, loaded.prompts, plan, folder, watch)
    typer.echo(f"{table(folder)}\nEverything is in {folder}.")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A run that was evaluated, or the folder of an evaluation.")],
    second: Annotated[Path, typer.Argument(help="The one it is compared with.")],
    step: Annotated[
        int | None, typer.Option(help="Which checkpoint of both, 0 for the base; the last of each if left out.")
    ] = None,
) -> None:
    """What the difference of two evaluated runs is worth: a paired test by problem, with a 95 % interval."""
    from purified_opsd.evaluation import Arm, compare_arms, comparison_table, newest_candidate

    folders = [folder / "evaluation" if (folder / "evaluation").is_dir() else folder for folder in (first, second)]
    names = [newest_candidate(folder) if step is None else f"step-{step:06d}" if step else "base" for folder in folders]
    one, other = (Arm(folder, name) for folder, name in zip(folders, names, strict=True))
    typer.echo(comparison_table(one, other, compare_arms(one, other)), nl=False)


@app.command()
def regrade(
    folder: Annotated[Path, typer.Argument(help="A run that was evaluated, or the folder of an evaluation.")],
) -> None:
    """Grade the samples of an evaluation again, without drawing any."""
    from purified_opsd.evaluation import regrade as grade_again
    from purified_opsd.evaluation import table

    place = folder / "evaluation" if (folder / "evaluation").is_dir() else folder
    changes = grade_again(place)
    for (before, after), count in sorted(changes.items()):
        typer.echo(f"{count} from {before} to {after}")
    typer.echo(f"{sum(changes.values())} grades changed.\n\n{table(place)}", nl=False)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe, to see all its settings as YAML.")] = None,
) -> None:
    """List the recipes, or print one as a YAML file to start from."""
    from purified_opsd.config import to_yaml
    from purified_opsd.recipes import RECIPES, find_recipe

    if name:
        typer.echo(to_yaml(find_recipe(name)), nl=False)
        return
    width = max(map(len, RECIPES))
    for recipe, run in RECIPES.items():
        typer.echo(f"{recipe:<{width}}  {run.arm}: {run.target}, {run.divergence}")


@app.command(context_settings=OTHER_SETTINGS)
def plan(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A YAML file, or a recipe's name.")],
    gpu: Annotated[str, typer.Option(help="One of the GPUs that are known, such as h100-80gb.")] = "h100-80gb",
    gpus: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    question: Annotated[int, typer.Option(min=1, help="Mean tokens of a question's prompt.")] = 200,
    reference: Annotated[int, typer.Option(min=1, help="Mean tokens of a reference.")] = 4000,
) -> None:
    """Estimate a run's memory and time on GPUs before there are any.

    Completions are taken to fill sampling.max_new_tokens. Other settings by their dotted names, as for `train`.
    """
    from purified_opsd.config import SettingsError, build_run, merge, read_overrides
    from purified_opsd.policy.shape import shape_of
    from purified_opsd.training.costs import lengths_of
    from purified_opsd.training.plan import GPUS, DoesNotFit, report

    run = build_run(merge(_settings_of(recipe), read_overrides(context.args)))
    if gpu not in GPUS:
        raise SettingsError(f"There is no GPU {gpu} in the table. Known: {', '.join(GPUS)}.")
    lengths = lengths_of(question, reference, run.sampling.max_new_tokens)
    try:
        typer.echo(report(run, shape_of(run.model), lengths, gpu, gpus))
    except DoesNotFit as error:
        raise SettingsError(str(error)) from error


def _settings_of(recipe: str) -> dict[str, Any]:
    """The settings in a YAML file, or of a recipe; a file may name a `recipe` to start from."""
    from purified_opsd.config import SettingsError, merge, read_settings, to_mapping
    from purified_opsd.recipes import find_recipe

    if recipe.startswith("--"):
        raise SettingsError(f"The recipe or YAML file comes first: purified-opsd train RECIPE {recipe} ...")
    if Path(recipe).suffix not in (".yaml", ".yml"):
        return to_mapping(find_recipe(recipe))
    settings = read_settings(Path(recipe))
    settings.setdefault("output_dir", str(Path("runs") / Path(recipe).stem))
    start = settings.pop("recipe", None)
    return merge(to_mapping(find_recipe(str(start))), settings) if start else settings


def _benchmarks_and_columns(words: list[str], columns: list[str]) -> "tuple[list[str], AnswerColumns | None]":
    """The words that follow `--benchmarks` and `--columns`, told apart: `problem=COLUMN` and the like are columns."""
    from purified_opsd.config import SettingsError
    from purified_opsd.evaluation import AnswerColumns

    roles = [f.name for f in fields(AnswerColumns)]
    named = [word for word in words if word.partition("=")[0] in roles]
    pairs = [word.partition("=") for word in [*columns, *named]]
    wrong = next((role for role, _, column in pairs if role not in roles or not column), None)
    if wrong is not None:
        raise SettingsError(f"--columns {wrong} names no column: write {', '.join(f'{role}=COLUMN' for role in roles)}.")
    mapped = AnswerColumns(**{role: column for role, _, column in pairs}) if pairs else None
    return [word for word in words if word not in named], mapped


def _subject_of(run: "Run | None", subject: str, dtype: Dtype, steps: list[int] | None, max_new_tokens: int) -> "Subject":
    """What is evaluated, loaded."""
    from purified_opsd.config import SettingsError
    from purified_opsd.data import Prompts
    from purified_opsd.policy import Model
    from purified_opsd.training.candidates import model_subject, run_subject

    if run:
        return run_subject(run, run.output_dir, steps, max_new_tokens)
    if steps:
        raise SettingsError(f"--step {steps[0]} is of a run, and {subject} is none: it has no config.yaml. Leave --step out.")
    return model_subject(Model(subject, dtype=dtype), Prompts(), max_new_tokens)


@contextmanager
def _settings_errors() -> Iterator[None]:
    """What a settings class refuses, as a setting that is wrong."""
    from purified_opsd.config import SettingsError

    try:
        yield
    except ValueError as error:
        raise SettingsError(str(error)) from error


@contextmanager
def _completable(folder: Path) -> Iterator[None]:
    """SIGINT and SIGTERM end an evaluation at once: what was drawn is on the disk, and the same command draws the rest."""
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo(f"\nStopped. What was drawn is in {folder}, marked PARTIAL; the same command draws the rest.", err=True)
        raise typer.Exit(128 + (caught or [signal.SIGINT])[0]) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_of(folder: Path) -> "Run":
    """The run that a run directory's config.yaml describes, wherever the directory has moved to."""
    from purified_opsd.config import build_run, read_settings
    from purified_opsd.reporting.records import RunReader

    return replace(build_run(read_settings(RunReader(folder).config_file)), output_dir=folder)


def _checkpoint_step(folder: Path, step: int | None) -> int:
    from purified_opsd.reporting.records import RunError
    from purified_opsd.training import list_checkpoints, newest_good

    steps = list_checkpoints(folder)
    newest, _ = newest_good(folder)
    if newest is None or (step is not None and step not in steps):
        there = f"it has {', '.join(map(str, steps))}" if steps else "it has none yet"
        raise RunError(f"{folder} has no good checkpoint{f' of step {step}' if step is not None else ''}; {there}.")
    return newest.step if step is None else step


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Names the command that goes on with a run, where it ended early."""
    from purified_opsd.training import Interrupted

    try:
        yield
    except Interrupted as stop:
        typer.echo(f"{stop}\nGo on with: purified-opsd resume {folder}", err=True)
        raise typer.Exit(stop.exit_code) from stop


def _exit_code(error: Exception) -> int | None:
    """1: training diverged, 2: a setting, 3: data or a checkpoint, 4: model or machine; None: a mistake of ours."""
    import torch

    from purified_opsd.config import SettingsError
    from purified_opsd.data import DataError, TemplateError
    from purified_opsd.evaluation import WorkerError
    from purified_opsd.policy import ModelError
    from purified_opsd.reporting.records import RunError
    from purified_opsd.training import CheckpointError

    codes: dict[type[Exception], int] = {
        FloatingPointError: 1,
        SettingsError: 2,
        RunError: 2,
        DataError: 3,
        CheckpointError: 3,
        ModelError: 4,
        TemplateError: 4,
        WorkerError: 4,
        OSError: 4,
        torch.OutOfMemoryError: 4,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), None)


def _paragraph(error: Exception) -> str:
    """What went wrong, and what to do where the error itself does not say."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"{str(error).splitlines()[0]} Lower micro_batch_tokens, sampling.rows or chunk_rows: "
            "purified-opsd resume RUN --micro-batch-tokens 4096."
        )
    if isinstance(error, OSError):
        return f"{error}. Nothing written before is lost: mend it, then resume the run or repeat the evaluation."
    return str(error)


def main() -> None:
    """Runs a verb; what a user can mend is said in a paragraph, with the exit code of its kind."""
    logging.basicConfig(format="%(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    try:
        app()
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"purified-opsd: {_paragraph(error)}", file=sys.stderr)
        sys.exit(code)


if __name__ == "__main__":
    main()
