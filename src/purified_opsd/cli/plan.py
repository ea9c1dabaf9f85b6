"""purified-opsd plan"""

from cyclopts.types import PositiveInt

from purified_opsd.errors import SettingsError
from purified_opsd.planning.cluster import Completions, cluster_report
from purified_opsd.planning.estimate import find_gpu, report
from purified_opsd.planning.flops_memory import lengths_of
from purified_opsd.planning.model_dims import model_dims_of
from purified_opsd.recipes import read_recipe
from purified_opsd.settings.build import build, override
from purified_opsd.training.config import TrainingConfig

from .parameters import Recipe, Settings


def plan(
    recipe: Recipe,
    /,
    *settings: Settings,
    gpu: str = "h100-80gb",
    gpus: PositiveInt = 1,
    question: PositiveInt = 200,
    reference: PositiveInt = 4000,
    nodes: str | None = None,
    median: PositiveInt | None = None,
) -> None:
    """Estimate a run's memory and time on GPUs before there are any; with --nodes, simulate its
    steps past eight.

    Completions are taken to fill sampling.max_new_tokens.

    Args:
        gpu: One of the GPUs that are known, such as h100-80gb.
        gpus: How many.
        question: Mean tokens of a question's prompt.
        reference: Mean tokens of a reference.
        nodes: Numbers of nodes of 8 GPUs to simulate, such as 1,2,4,8.
        median: Median tokens of a completion in the simulation.
    """
    find_gpu(gpu)
    config = build(TrainingConfig, override(TrainingConfig, read_recipe(recipe), settings))
    lengths = lengths_of(question, reference, config.sampling.max_new_tokens)
    dims = model_dims_of(config.model)
    print(report(config, dims, lengths, gpu, gpus))
    if nodes:
        completions = Completions(median or config.sampling.max_new_tokens)
        print(cluster_report(config, dims, lengths, gpu, _counts(nodes), completions))


def _counts(words: str) -> list[int]:
    counts = [int(word) if word.strip().isdigit() else 0 for word in words.split(",")]
    if min(counts) < 1:
        raise SettingsError(
            "--nodes takes whole numbers above 0 with commas between them, such as 1,2,4,8; got "
            f"{words}."
        )
    return counts
