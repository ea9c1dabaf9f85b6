"""purified-opsd evaluate"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from purified_opsd.data.prompts import PromptBuilder, Prompts
from purified_opsd.errors import ServersLost, SettingsError, Stopped, refused_as_settings
from purified_opsd.evaluation.benchmarks import Benchmark
from purified_opsd.evaluation.config import EvaluationConfig
from purified_opsd.evaluation.evaluate import evaluate as evaluate_candidates
from purified_opsd.evaluation.graded_benchmarks import load_benchmarks
from purified_opsd.evaluation.progress import progress_bar
from purified_opsd.evaluation.summary import table
from purified_opsd.interrupts import StopRequest, interrupt
from purified_opsd.policy.model import Model
from purified_opsd.sampling.engines import HF, Engine, VLLMServers
from purified_opsd.settings.build import build, merge, read_overrides, to_mapping
from purified_opsd.storage.files import write_atomic
from purified_opsd.training.config import TrainingConfig, read_config

from .loading import loading
from .parameters import EvaluationSettings, Several, markers_in

if TYPE_CHECKING:
    from purified_opsd.training.checkpoint_models import LoadedModels

PAPERS_RUNS = 12
Dtype = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True)
class BareModel:
    """A model that is no run."""

    path: str
    dtype: Dtype
    adapter: Path | None


@dataclass(frozen=True)
class ModelEvaluation(EvaluationConfig):
    """The evaluation of a model that is no run: how it is asked is a setting too."""

    prompts: Prompts = Prompts()


def evaluate(
    subject: str,
    /,
    *settings: EvaluationSettings,
    step: Annotated[list[int] | None, Several] = None,
    adapter: Path | None = None,
    dtype: Dtype = "auto",
    markers: str = "",
    server: Annotated[list[str] | None, Several] = None,
    output_dir: Path | None = None,
) -> None:
    """Measure the accuracy of a run's base and checkpoints, or of a model, with its error.

    Settings are those of a run's `evaluation:` section: --benchmarks aime24 aime25 hmmt25 countdown
    (or FILE, ORG/SET, NAME=FILE), --runs 12, --limit 30, --seed 0, --columns.problem COLUMN and
    --grader MODULE:NAME of a set of your own, --sampling.preset card or upstream,
    --sampling.temperature 0.6. A model that is no run takes --prompts.template FILE,
    --prompts.system and the like, too. Interrupted anywhere, the same command completes what is
    pending.

    Args:
        subject: A run directory (base and every checkpoint), or a model's hub id or folder.
        step: Which checkpoints of a run, 0 for its base; all if left out.
        adapter: A PEFT adapter's folder, for a model: evaluates both.
        dtype: Of a model that is no run; a run's is its own.
        markers: Epistemic markers of your own to count, with commas between; a run's if left out.
        server: vLLM servers to draw from, several at once: URL URL.
        output_dir: Where samples and results go; RUN/evaluation if left out.
    """
    run = read_config(Path(subject)) if (Path(subject) / "config.yaml").is_file() else None
    bare = BareModel(subject, dtype, adapter)
    folder = output_dir or _default_folder(subject, run)
    with completable(folder):
        config = evaluation_config(settings, run)
        with refused_as_settings():
            own_markers = markers_in(markers) or (run.markers if run else ())
            request = config.request_for(run.model.path if run else subject, own_markers)
            engine = VLLMServers(tuple(server)) if server else HF()
        benchmarks = load_benchmarks(config.benchmarks, config.columns, config.grader)
        prompts = config.prompts if isinstance(config, ModelEvaluation) else Prompts()
        loaded = _load(run, step, bare, prompts, request.sampling.max_new_tokens, engine)
        _say_how_it_is_asked(loaded.prompts, benchmarks)
        print(f"{request.sampling}, {request.runs} runs", flush=True)
        try:
            with progress_bar() as on_progress:
                results = evaluate_candidates(
                    loaded.candidates, benchmarks, loaded.prompts, request, folder, on_progress
                )
        finally:
            if not run and (folder / "results.json").exists():
                _record_subject(folder, bare)
    print(f"{table(results)}\nEverything is in {folder}.")


def evaluation_config(words: Sequence[str], run: TrainingConfig | None) -> EvaluationConfig:
    """Returns what the command line asks for, sampled as the run's own evaluations are.  Raises
    SettingsError.
    """
    cls = EvaluationConfig if run else ModelEvaluation
    overrides = read_overrides(cls, words)
    if "every" in overrides:
        raise SettingsError(
            "--every is of a run's own evaluations, while it trains: `purified-opsd train RECIPE "
            "--evaluation.every N`. Leave it out; --step chooses checkpoints."
        )
    if run and "prompts" in overrides:
        raise SettingsError(
            f"{run.output_dir} is a run, and is asked with the prompts it was trained on. Leave "
            "--prompts out, or evaluate its model by name, with --adapter."
        )
    start = {"runs": PAPERS_RUNS}
    if run:
        start["sampling"] = to_mapping(run.evaluation.sampling)
    config = build(cls, merge(cls, start, overrides))
    if not config.benchmarks:
        raise SettingsError(
            "The setting benchmarks is missing. Name what is evaluated on: --benchmarks aime24 "
            "aime25, or a file."
        )
    return config


def _default_folder(subject: str, run: TrainingConfig | None) -> Path:
    return Path(subject) / "evaluation" if run else Path("evaluations") / Path(subject).name


def _load(
    run: TrainingConfig | None,
    steps: list[int] | None,
    bare: BareModel,
    prompts: Prompts,
    max_new_tokens: int,
    engine: Engine,
) -> "LoadedModels":
    """Returns what is evaluated: a run's checkpoints, or a model with or without an adapter."""
    with loading():
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
        return load_adapted_model(model, bare.adapter, prompts, max_new_tokens, engine)
    return load_bare_model(model, prompts, max_new_tokens, engine)


def _say_how_it_is_asked(prompts: PromptBuilder, benchmarks: Sequence[Benchmark]) -> None:
    questions = [question for benchmark in benchmarks for question in benchmark.questions]
    spelled = sum(prompts.spells_control(question.problem) for question in questions)
    if spelled:
        print(
            f"{spelled} of {len(questions)} questions spell a control token, such as <|im_end|>: "
            "in their prompts it is text, and ends no turn."
        )
    for remark in prompts.remarks():
        print(remark)


def _record_subject(folder: Path, bare: BareModel) -> None:
    """Writes down which model an evaluation is of, where no run's config.yaml says it."""
    file = folder / "subject.json"
    if not file.exists():
        write_atomic(file, json.dumps(asdict(bare), default=str, indent=2) + "\n")


@contextmanager
def completable(folder: Path) -> Iterator[None]:
    """Says what the same command will complete where a signal or the loss of all servers ends an
    evaluation.  Raises Stopped after a SIGINT or SIGTERM.
    """
    with StopRequest(at_first=interrupt) as stop:
        try:
            yield
        except (KeyboardInterrupt, Exception) as error:
            if stop.signal:  # libraries make other errors of a KeyboardInterrupt
                raise Stopped(f"Stopped. {_rest(folder)}", 128 + stop.signal) from error
            if isinstance(error, ServersLost):
                raise ServersLost(f"{error} {_rest(folder)}") from error
            raise


def _rest(folder: Path) -> str:
    if (folder / "results.json").exists():
        drawn = f"What was drawn is in {folder}, PARTIAL where samples are owed"
    else:
        drawn = "Nothing was drawn yet"
    return f"{drawn}; the same command draws the rest."
