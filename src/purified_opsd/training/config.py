"""The settings of a training run: frozen values of the very classes that do the work."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from purified_opsd.data.dataset import TrainingSet
from purified_opsd.data.prompts import Prompts
from purified_opsd.distributed.sharding import FSDP2, Replicated
from purified_opsd.evaluation.benchmarks import located_benchmark
from purified_opsd.evaluation.config import EvaluationConfig
from purified_opsd.objective.averaging import SequenceMean, TokenMean
from purified_opsd.objective.divergences import JSD, ForwardKL, ReverseKL
from purified_opsd.objective.kernels import Compiled, Eager
from purified_opsd.objective.targets import PMITarget, TeacherTarget
from purified_opsd.policy.model import LoRA, Model
from purified_opsd.sampling.engines import HF, VLLM, VLLMServers
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.settings.build import build, flat, to_mapping
from purified_opsd.settings.yaml_file import read_yaml
from purified_opsd.storage.run_dir import RunReader

from .collapse import CollapseLimits
from .mismatch import MismatchLimits
from .optimizer import AdamW, Constant, Cosine, Linear

CHANGEABLE = (
    "model.path",
    "model.revision",
    "model.attention",
    "model.trust_remote_code_of",
    "model.gradient_checkpointing",
    "data",
    "prompts.template",
    "output_dir",
    "sampling.batch_size",
    "sampler",
    "alarm",
    "micro_batch_tokens",
    "sharding",
    "kernels",
    "chunk_rows",
    "checkpoint_every",
    "keep_checkpoints",
    "evaluation",
    "decompose_per_step",
    "markers",
    "trackers",
)
"""Settings and sections that a run may change at any time: they decide where it is computed and
what is kept or watched of it, and its student only as far as sums round otherwise, or another
engine draws other completions of the same distribution.  `steps` is one more under a constant
schedule.
"""


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.  The defaults are the paper's; where it is silent, upstream's.

    Raises ValueError for a number out of range, and for settings that exclude each other.
    """

    model: Model
    data: TrainingSet
    output_dir: Path
    """The run directory: where the run goes."""
    adapter: LoRA = LoRA()
    prompts: Prompts = Prompts()
    sampling: Sampling = Sampling()
    sampler: HF | VLLM | VLLMServers = HF()
    """Where completions are drawn."""
    alarm: MismatchLimits = MismatchLimits()
    """How far the sampler may be from the trainer."""
    target: PMITarget | TeacherTarget = PMITarget()
    divergence: JSD | ForwardKL | ReverseKL = JSD()
    averaging: SequenceMean | TokenMean = SequenceMean()
    loss_temperature: float = 1.0
    """Divides the logits of every distribution in the loss; the sampler's temperature never does.
    """
    optimizer: AdamW = AdamW()
    schedule: Constant | Linear | Cosine = Constant()
    steps: int = 200
    """Optimizer steps.  Source: the paper."""
    batch_size: int = 32
    """Questions a step, over all processes; one completion each.  Source: the paper."""
    micro_batch_tokens: int = 16_384
    """Tokens of one forward pass, padding included."""
    sharding: Replicated | FSDP2 = Replicated()
    """How the frozen base lies over several processes."""
    kernels: Compiled | Eager = Compiled()
    """How the elementwise part of the loss is run."""
    chunk_rows: int | None = None
    """Completion tokens whose full-vocabulary logits exist at once; null: chosen from the
    vocabulary and the device.
    """
    checkpoint_every: int = 50
    """Steps; the last one, and each that is evaluated, has a checkpoint too.  Source: the paper."""
    keep_checkpoints: int | None = None
    """Newest checkpoints that are kept, and beside them the best by evaluation; null: all."""
    seed: int = 0
    """Seed of everything random."""
    evaluation: EvaluationConfig = EvaluationConfig()
    decompose_per_step: int = 0
    """Completions of each step on which the teacher's pull is taken apart (docs/metrics.md); four
    more passes over each.
    """
    markers: tuple[str, ...] = ()
    """Epistemic markers of your own, counted beside Kim et al.'s."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where each step's metrics go besides metrics.jsonl."""

    def __post_init__(self):
        for name in ("steps", "batch_size", "micro_batch_tokens", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.keep_checkpoints is not None and self.keep_checkpoints < 1:
            raise ValueError(
                f"keep_checkpoints must be at least 1, got {self.keep_checkpoints}: the newest is "
                "what a run goes on from. Give null to keep all."
            )
        if not 0 < self.loss_temperature < float("inf"):
            raise ValueError(
                f"loss_temperature must be above 0, got {self.loss_temperature}. The paper's is 1."
            )
        if self.chunk_rows is not None and self.chunk_rows < 1:
            raise ValueError(
                f"chunk_rows must be at least 1, got {self.chunk_rows}. Leave it out to have it "
                "chosen."
            )
        if self.decompose_per_step < 0:
            raise ValueError(
                f"decompose_per_step must be at least 0, got {self.decompose_per_step}. 0 takes "
                "none apart."
            )
        if self.decompose_per_step and isinstance(self.sharding, FSDP2):
            raise ValueError(
                f"decompose_per_step is {self.decompose_per_step}, and takes a base that is whole "
                "in each process, which under --sharding fsdp2 it is not. Leave it out, and take "
                "the checkpoints apart afterwards with `purified-opsd diagnose RUN`."
            )
        if not all(marker.strip() for marker in self.markers):
            raise ValueError(
                f"markers holds an empty one: {list(self.markers)}. It would be found everywhere; "
                "leave it out."
            )
        if self.evaluation.every:
            self.evaluation.request_for(self.model.path)

    @property
    def purified_target(self) -> PMITarget:
        """The run's own purified target; the paper's where it trains on the teacher itself."""
        return self.target if isinstance(self.target, PMITarget) else PMITarget()

    @property
    def collapse_limits(self) -> CollapseLimits:
        """What the numbers of each step are held against."""
        return CollapseLimits(
            self.divergence.maximum, self.optimizer.max_grad_norm, self.batch_size
        )

    def saves(self, step: int) -> bool:
        """Is there a checkpoint after `step` steps?"""
        return (
            step % self.checkpoint_every == 0
            or step == self.steps
            or self.evaluation.due(step, self.steps)
        )

    def identity(self) -> dict[str, str]:
        """Returns, by dotted name, every setting that changes the student or how it is trained.
        Training set, base and template are known by what they hold instead.
        """
        named = dict(flat(to_mapping(self)))
        if isinstance(self.schedule, Constant):
            del named["steps"]
        return {
            name: value if isinstance(value, str) else json.dumps(value, default=str)
            for name, value in named.items()
            if name not in CHANGEABLE and name.partition(".")[0] not in CHANGEABLE
        }

    def shared(self) -> dict[str, str]:
        """Returns what every process of the run must have been told alike, which is all but where
        the run goes.
        """
        return {
            f"setting {f.name}": repr(getattr(self, f.name))
            for f in fields(self)
            if f.name != "output_dir"
        }

    @property
    def arm(self) -> str:
        """The paper's name of what is being done."""
        return "standard" if isinstance(self.target, TeacherTarget) else "pmi"


@cache
def default_identity() -> dict[str, str]:
    """Returns what `TrainingConfig.identity` says of a run whose settings are all by default."""
    return TrainingConfig(Model(""), TrainingSet(""), Path()).identity()


def new_config(settings: Mapping[str, Any]) -> TrainingConfig:
    """Returns the config of a run that is to begin, its local paths absolute.  Raises
    SettingsError.
    """
    config = with_absolute_paths(build(TrainingConfig, settings))
    return replace(config, output_dir=config.output_dir.expanduser())


def with_absolute_paths(config: TrainingConfig) -> TrainingConfig:
    """Returns the config with what it reads named absolutely, so that the run can be resumed from
    anywhere.
    """
    model = replace(config.model, path=_absolute(config.model.path))
    if config.model.trust_remote_code_of == config.model.path:
        model = replace(model, trust_remote_code_of=model.path)
    benchmarks = tuple(located_benchmark(name) for name in config.evaluation.benchmarks)
    return replace(
        config,
        model=model,
        data=replace(config.data, path=_absolute(config.data.path)),
        prompts=replace(config.prompts, template=_absolute_file(config.prompts.template)),
        evaluation=replace(config.evaluation, benchmarks=benchmarks),
    )


def read_config(folder: Path) -> TrainingConfig:
    """Returns the config of the run in a run directory, wherever the directory has moved to."""
    settings = read_yaml(RunReader(folder).config_file)
    return replace(build(TrainingConfig, settings), output_dir=folder)


def _absolute_file(file: Path | None) -> Path | None:
    return file and file.expanduser().absolute()


def _absolute(path: str) -> str:
    """Returns the path as an absolute one where something is there; else the text as it was, a hub
    id for all we know.
    """
    file = Path(path).expanduser()
    return str(file.absolute()) if file.exists() else path
