"""purified-opsd train"""

import shlex

from purified_opsd.data.readers import refuse_missing
from purified_opsd.errors import Stopped
from purified_opsd.recipes import read_recipe
from purified_opsd.settings.build import merge, override
from purified_opsd.training.config import TrainingConfig, new_config

from .loading import loading
from .parameters import Recipe, Settings
from .rank_zero import say


def train(
    recipe: Recipe,
    /,
    *settings: Settings,
    model: str | None = None,
    data: str | None = None,
    output_dir: str | None = None,
    steps: str | None = None,
    seed: str | None = None,
) -> int:
    """Train a LoRA adapter.

    Set most often: --batch-size 32, --optimizer.learning-rate 5e-6, --adapter.rank 64,
    --sampling.max-new-tokens 1024, --target teacher, --target.clip 10, --divergence forward-kl,
    --micro-batch-tokens 16384, --sampler vllm, --trackers wandb, and --evaluation.every 50 with
    --evaluation.benchmarks aime25.

    Args:
        model: Hub id or folder of the model.
        data: Training set: a file, a folder or a hub id.
        output_dir: Where the run goes; runs/RECIPE if left out.
        steps: Optimizer steps; the recipe's if left out.
        seed: Seed of everything random; the recipe's if left out.
    """
    named = {"model": model, "data": data, "output_dir": output_dir, "steps": steps, "seed": seed}
    short = {name: value for name, value in named.items() if value is not None}
    start = merge(TrainingConfig, read_recipe(recipe), short)
    config = new_config(override(TrainingConfig, start, settings))
    refuse_missing(config.data.path)
    with loading():
        from purified_opsd.training.run import start_run
    try:
        start_run(config)
    except Stopped as stop:
        say(f"{stop}\nGo on with: purified-opsd resume {shlex.quote(str(config.output_dir))}")
        return stop.exit_code
    return 0
