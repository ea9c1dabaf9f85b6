"""The settings of an evaluation: the `evaluation:` section of a run, and those of the command
`evaluate`.  None of them changes the student.

Sampling follows a model's card, or upstream, which samples every model alike; the paper is silent.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from purified_opsd.sampling.sampler import Sampling
from purified_opsd.storage.files import read_json

from .benchmarks import AnswerColumns
from .requests import EvaluationRequest, check_counts

UPSTREAM = Sampling(temperature=1.0, top_p=0.95, top_k=0, max_new_tokens=38_912)

CARDS: Mapping[str, Sampling] = {
    "Qwen/Qwen3-8B": Sampling(temperature=0.6, top_p=0.95, top_k=20, max_new_tokens=38_912),
    "Qwen/Qwen3-4B": Sampling(temperature=0.6, top_p=0.95, top_k=20, max_new_tokens=38_912),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Sampling(
        temperature=0.6, top_p=0.95, top_k=0, max_new_tokens=32_768
    ),
    "allenai/Olmo-3-7B-Think": Sampling(
        temperature=0.6, top_p=0.95, top_k=0, max_new_tokens=32_768
    ),
}
"""How the models' cards sample, by hub id."""


def card_of(model: str) -> Sampling | None:
    """Returns how the card of a model samples: by its hub id, or from a folder whose
    generation_config.json gives every value; else None.
    """
    if model in CARDS:
        return CARDS[model]
    file = Path(model) / "generation_config.json"
    config = read_json(file) if file.is_file() else {}
    names = ("temperature", "top_p", "top_k", "max_new_tokens")
    values = {name: config[name] for name in names if config.get(name) is not None}
    return Sampling(**values) if len(values) == len(names) else None


@dataclass(frozen=True)
class SamplingOverrides:
    """A preset, and values that replace its own; null: the preset's."""

    short_form: ClassVar[tuple[str, ...]] = ("preset",)
    """`sampling: upstream` names the preset."""
    preset: str | None = None
    """`card` or `upstream`; null: the model's card where it is known, else upstream's.  Source: the
    models' cards.
    """
    temperature: float | None = None
    """Divides the logits; 0 is greedy."""
    top_p: float | None = None
    """The share of probability that is drawn from."""
    top_k: int | None = None
    """The most likely tokens that are drawn from; 0: no limit."""
    max_new_tokens: int | None = None
    """Longest completion."""
    batch_size: int | None = None
    """Sequences generated side by side."""

    def resolve(self, model: str) -> Sampling:
        """How the model at that path is sampled.  Raises ValueError for an unknown preset, a card
        that is not known, or an impossible value.
        """
        values = self._given()
        values.pop("preset", None)
        return replace(self._preset_of(model), **values)

    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def _preset_of(self, model: str) -> Sampling:
        if self.preset not in (None, "card", "upstream"):
            raise ValueError(
                f"There is no sampling '{self.preset}'. Give card (as the model's card says) or "
                "upstream."
            )
        card = card_of(model)
        if self.preset == "card" and card is None:
            raise ValueError(
                f"The card of {model} is not known here; those of {', '.join(CARDS)} are, and "
                "those of folders whose generation_config.json gives temperature, top_p, top_k and "
                "max_new_tokens. Give --sampling.preset upstream, and what its card says as "
                "--sampling.temperature, --sampling.top-p, --sampling.top-k and "
                "--sampling.max-new-tokens."
            )
        return UPSTREAM if self.preset == "upstream" or card is None else card


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, and how: between a run's steps, or by `purified-opsd evaluate`."""

    every: int = 0
    """Steps from one evaluation of a run to the next; 0: never.  The base is evaluated too, before
    the first step, and so is the last step.
    """
    benchmarks: tuple[str, ...] = ()
    """Names, files or hub ids of benchmarks, as `load_benchmark` takes them."""
    columns: AnswerColumns | None = None
    """The columns of benchmarks by path; null: problem, answer and id."""
    grader: str | None = None
    """The grader of benchmarks by path or hub id, as a Python path: `my_module:my_grader`, a
    function of problem, gold answer and text; null: answers are graded as mathematics.
    """
    runs: int = 4
    """Completions of each problem."""
    limit: int | None = None
    """The first problems of each benchmark only."""
    seed: int = 0
    """Decides the completions that are drawn."""
    sampling: SamplingOverrides = SamplingOverrides()

    def __post_init__(self):
        check_counts(self.runs, self.limit)
        if self.every < 0:
            raise ValueError(f"evaluation.every must be at least 0, got {self.every}. 0 is never.")
        if self.every and not self.benchmarks:
            raise ValueError(
                f"evaluation.every is {self.every}, and evaluation.benchmarks names none, such as "
                "[aime25]: nothing can be asked."
            )

    def due(self, step: int, last: int) -> bool:
        """Is the student evaluated after `step` of `last` steps?"""
        return self.every > 0 and (step % self.every == 0 or step == last)

    def request_for(self, model: str, markers: tuple[str, ...] = ()) -> EvaluationRequest:
        """What is requested of the model at that path; `markers` are counted beside Kim et al.'s.
        Raises ValueError for what is impossible.
        """
        sampling = self.sampling.resolve(model)
        return EvaluationRequest(sampling, self.runs, self.limit, self.seed, markers)
