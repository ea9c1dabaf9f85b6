"""What is measured of a student on the way.  None of it changes the student.

How an evaluation samples: as a model's card says, or as upstream does with every model.  The paper
is silent.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

from purified_opsd.sampling.sampler import Sampling
from purified_opsd.storage.files import read_json

from .benchmarks import AnswerColumns
from .requests import EvaluationPlan

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
"""What the cards say, by hub id."""


def card_of(model: str) -> Sampling | None:
    """What the card of a model says: by its hub id, or in a folder whose generation_config.json
    tells all of it; else None.
    """
    file = Path(model) / "generation_config.json"
    told = read_json(file) if file.is_file() else {}
    found = {
        name: told[name]
        for name in ("temperature", "top_p", "top_k", "max_new_tokens")
        if told.get(name) is not None
    }
    return CARDS.get(model) or (Sampling(**found) if len(found) == 4 else None)


@dataclass(frozen=True)
class SamplingOverrides:
    """A preset and what goes over it; null: what the preset says."""

    short_form: ClassVar[tuple[str, ...]] = ("preset",)
    """`sampling: upstream` names the preset."""
    preset: str | None = None
    """`card` or `upstream`; null: the model's card where it is known, else upstream's."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_new_tokens: int | None = None
    batch_size: int | None = None

    def of(self, model: str) -> Sampling:
        """How this model is sampled.  Raises ValueError for an unknown preset, a card that is not
        known, or an impossible value.
        """
        chosen = {
            name: value
            for name, value in asdict(self).items()
            if name != "preset" and value is not None
        }
        return replace(self._preset(model), **chosen)

    def _preset(self, model: str) -> Sampling:
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
    """Benchmarks asked between steps, as `purified-opsd evaluate` asks them."""

    every: int = 0
    """Steps from one evaluation to the next; 0: never.  The base is evaluated too, before the first
    step, and so is the last.
    """
    benchmarks: tuple[str, ...] = ()
    """As `--benchmarks` takes them."""
    columns: AnswerColumns | None = None
    """Of benchmarks by path; null: problem, answer and id."""
    runs: int = 4
    """Completions of each problem."""
    limit: int | None = None
    """The first problems of each benchmark only."""
    seed: int = 0
    sampling: SamplingOverrides = SamplingOverrides()

    def __post_init__(self):
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

    def plan(self, model: str) -> EvaluationPlan:
        """What is asked of a model at that path.  Raises ValueError for what is impossible."""
        return EvaluationPlan(self.sampling.of(model), self.runs, self.limit, self.seed)
