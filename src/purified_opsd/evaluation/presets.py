"""How an evaluation samples: as a model's card says, or as upstream does with every model.  The paper is silent."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from purified_opsd.policy import Sampling
from purified_opsd.reporting.records import read_json

UPSTREAM = Sampling(temperature=1.0, top_p=0.95, top_k=0, max_new_tokens=38_912)

CARDS: Mapping[str, Sampling] = {
    "Qwen/Qwen3-8B": Sampling(temperature=0.6, top_p=0.95, top_k=20, max_new_tokens=38_912),
    "Qwen/Qwen3-4B": Sampling(temperature=0.6, top_p=0.95, top_k=20, max_new_tokens=38_912),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Sampling(temperature=0.6, top_p=0.95, top_k=0, max_new_tokens=32_768),
    "allenai/Olmo-3-7B-Think": Sampling(temperature=0.6, top_p=0.95, top_k=0, max_new_tokens=32_768),
}
"""What the cards say, by hub id."""


def card_of(model: str) -> Sampling | None:
    """What the card of a model says: by its hub id, or in a folder whose generation_config.json tells all of it; else None."""
    file = Path(model) / "generation_config.json"
    told = read_json(file) if file.is_file() else {}
    found = {name: told[name] for name in ("temperature", "top_p", "top_k", "max_new_tokens") if told.get(name) is not None}
    return CARDS.get(model) or (Sampling(**found) if len(found) == 4 else None)


@dataclass(frozen=True)
class SamplingChoice:
    """A preset and what goes over it; null: what the preset says."""

    preset: str | None = None
    """`card` or `upstream`; null: the model's card where it is known, else upstream's."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_new_tokens: int | None = None
    rows: int | None = None

    def over(self, other: "SamplingChoice") -> "SamplingChoice":
        """The other one, with what is said here put over it."""
        return replace(other, **{name: value for name, value in asdict(self).items() if value is not None})

    def of(self, model: str) -> Sampling:
        """How this model is sampled.  Raises ValueError for an unknown preset, a card that is not known, or an impossible value."""
        chosen = {name: value for name, value in asdict(self).items() if name != "preset" and value is not None}
        return replace(self._preset(model), **chosen)

    def _preset(self, model: str) -> Sampling:
        if self.preset not in (None, "card", "upstream"):
            raise ValueError(f"There is no sampling '{self.preset}'. Give card (as the model's card says) or upstream.")
        card = card_of(model)
        if self.preset == "card" and card is None:
            raise ValueError(
                f"The card of {model} is not known here; those of {', '.join(CARDS)} are, and those of folders whose "
                "generation_config.json gives temperature, top_p, top_k and max_new_tokens. Give --sampling upstream, and "
                "what its card says as --temperature, --top-p, --top-k and --max-new-tokens."
            )
        return UPSTREAM if self.preset == "upstream" or card is None else card
