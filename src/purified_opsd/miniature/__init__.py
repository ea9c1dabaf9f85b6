"""The embedded default: a task, a tokenizer and a tiny long-CoT reasoner whose weights ship in the package."""

from importlib.resources import files
from pathlib import Path

from .dataset import rows, write_distillation_set, write_evaluation_set
from .task import Split, grade

__all__ = ["Split", "grade", "path", "rows", "write_distillation_set", "write_evaluation_set"]


def path() -> Path:
    """The folder of the shipped base, for AutoModelForCausalLM.from_pretrained and AutoTokenizer.from_pretrained.

    Raises FileNotFoundError if the installation lacks it.
    """
    folder = Path(str(files(__name__) / "base"))
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"the miniature's weights must stand in {folder}, got no model.safetensors there: the package was installed without "
            "its data, and no default model is left to run. Reinstall it, or make the weights: "
            f"python -m {__package__}.build --output {folder}"
        )
    return folder
