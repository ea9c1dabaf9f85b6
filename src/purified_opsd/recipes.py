"""Named runs: every cell of the paper's Table 1, every ablation of Figs. 6 and 7, upstream's own
setting, and the miniature.

All but the miniature's have the paper's 200 steps of 32 questions, completions of 1,024 tokens and
a checkpoint every 50 steps.
"""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from purified_opsd.data.dataset import READY_COLUMNS, TrainingSet
from purified_opsd.evaluation.config import EvaluationConfig, SamplingOverrides
from purified_opsd.objective.divergences import ForwardKL
from purified_opsd.objective.targets import PMITarget, TeacherTarget
from purified_opsd.policy.model import LoRA, Model
from purified_opsd.sampling.sampler import Sampling
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.optimizer import AdamW

from . import miniature
from .errors import SettingsError
from .settings.build import merge, to_mapping
from .settings.names import did_you_mean
from .settings.yaml_file import read_yaml

MODELS: Mapping[str, str] = {
    "qwen3-8b": "Qwen/Qwen3-8B",
    "qwen3-4b": "Qwen/Qwen3-4B",
    "r1-distill-7b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "olmo3-7b-think": "allenai/Olmo-3-7B-Think",
}

DATA: Mapping[str, TrainingSet] = {
    # The paper's 10K rows are unpublished: these are a seeded sample of the mathematical ones.
    "dasd": TrainingSet(
        "Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b",
        config="stage1",
        where={"domain": "math"},
        subset=10_000,
    ),
    "math-cot": TrainingSet("jasonrqh/Math-CoT-20k"),
}

PREPARATIONS: Mapping[str, TrainingSet] = {
    "dasd-10k": DATA["dasd"],
    "math-cot-20k": DATA["math-cot"],
}
"""The paper's training sets, as `purified-opsd prepare` knows them."""

ARMS: Mapping[str, PMITarget | TeacherTarget] = {"pmi": PMITarget(), "standard": TeacherTarget()}

ABLATIONS: Mapping[str, PMITarget] = {
    **{f"pmi-clip-{clip:g}": PMITarget(clip=clip) for clip in (5.0, 10.0, 20.0)},
    **{f"pmi-beta-{beta:g}": PMITarget(beta=beta) for beta in (0.5, 1.0, 2.0)},
}

MINIATURE = TrainingConfig(
    Model(str(miniature.BASE), dtype="float32", gradient_checkpointing=False),
    TrainingSet(str(miniature.TRAINING_SET)),
    Path("runs"),
    adapter=LoRA(rank=32, alpha=64),
    sampling=Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=192, batch_size=100),
    evaluation=EvaluationConfig(sampling=SamplingOverrides(batch_size=100)),
    optimizer=AdamW(learning_rate=3e-4, max_grad_norm=1.0),
    steps=60,
    checkpoint_every=20,
)
"""Minutes on two processor cores.  A model this small learns at a higher rate, and samples from all
it knows.
"""


def _recipes() -> dict[str, TrainingConfig]:
    recipes: dict[str, TrainingConfig] = {}
    for model, (data_name, data), (arm, target) in product(MODELS, DATA.items(), ARMS.items()):
        recipes[f"{model}.{data_name}.{arm}"] = _cell(model, data, target)
    for model, (name, target) in product(("qwen3-8b", "r1-distill-7b"), ABLATIONS.items()):
        recipes[f"{model}.math-cot.{name}"] = _cell(model, DATA["math-cot"], target)
    upstream = TrainingSet("siyanzhao/Openthoughts_math_30k_opsd")
    recipes["qwen3-8b.openthoughts.upstream"] = replace(
        _cell("qwen3-8b", upstream, TeacherTarget()), divergence=ForwardKL(), loss_temperature=1.1
    )
    for arm, target in ARMS.items():
        recipes[f"miniature.{arm}"] = replace(MINIATURE, target=target)
    return {
        name: replace(config, output_dir=Path("runs") / name) for name, config in recipes.items()
    }


def _cell(model: str, data: TrainingSet, target: PMITarget | TeacherTarget) -> TrainingConfig:
    return TrainingConfig(Model(MODELS[model]), data, Path("runs"), target=target)


RECIPES: Mapping[str, TrainingConfig] = _recipes()


def find_recipe(name: str) -> TrainingConfig:
    """Returns the recipe of that name.  Raises SettingsError that names the nearest."""
    if name not in RECIPES:
        raise SettingsError(
            f"There is no recipe '{name}', and it is no YAML file (.yaml).{_nearest(name)} "
            "`purified-opsd recipes` lists them all."
        )
    return RECIPES[name]


def _nearest(name: str) -> str:
    """Returns ` Did you mean x?`, for a slip or a part of a name; nothing where none is near."""
    word = name.lower().replace("_", "-").removeprefix("recipes/")
    holding = [recipe for recipe in RECIPES if word and word in recipe]
    if holding:
        return f" Did you mean {' or '.join(holding[:3])}?"
    return did_you_mean(word, RECIPES)


def read_recipe(name: str) -> dict[str, Any]:
    """Returns the settings of a recipe, or of a YAML file, which may name a `recipe` to start from.

    Raises SettingsError.
    """
    if name.startswith("--"):
        raise SettingsError(f"The recipe or YAML file comes first: RECIPE {name} ...")
    if not is_yaml(name):
        return to_mapping(find_recipe(name))
    settings = {"output_dir": str(Path("runs") / Path(name).stem), **read_yaml(Path(name))}
    start = settings.pop("recipe", None)
    if not start:
        return settings
    return merge(TrainingConfig, to_mapping(find_recipe(str(start))), settings)


def is_yaml(name: str) -> bool:
    """Is this a settings file, rather than a recipe's name?"""
    return Path(name).suffix in (".yaml", ".yml")


def find_preparation(name: str) -> TrainingSet:
    """Returns a set to prepare: by name (`dasd-10k`), by path or hub id, or a named one read from a
    path (`dasd-10k=rows.parquet`).

    Raises SettingsError where there is none of that name.
    """
    known, _, path = name.partition("=")
    if known in PREPARATIONS:
        preparation = PREPARATIONS[known]
        if not path:
            return preparation
        columns = READY_COLUMNS[preparation.path]
        return replace(preparation, path=path, config=None, columns=columns)
    close = difflib.get_close_matches(known, PREPARATIONS, 1)
    if close and not Path(name).expanduser().exists():
        raise SettingsError(
            f"There is no preparation '{known}'. Did you mean {close[0]}? Named ones: "
            f"{', '.join(PREPARATIONS)}."
        )
    return TrainingSet(name)
