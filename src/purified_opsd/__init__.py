"""On-policy self-distillation for long chain-of-thought models, with the purified PMI target.

The names below are the library.  Each is imported from its module when it is first asked for, so
that neither the package nor the command line waits for torch before it needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .analysis.markers import marker_counts
    from .analysis.token_readout import read_tokens
    from .data.dataset import TrainingSet, load_examples
    from .data.prompts import PromptBuilder
    from .evaluation.evaluate import evaluate
    from .evaluation.grading.graders import MathGrader
    from .objective.averaging import SequenceMean, TokenMean, token_weights
    from .objective.chunked_loss import chunked_loss
    from .objective.decomposition import alignment, decompose, norm_fraction
    from .objective.divergences import JSD, ForwardKL, ReverseKL
    from .objective.loss import loss_from_logits
    from .objective.targets import PMITarget, TeacherTarget
    from .policy.loading import load_policy
    from .policy.model import LoRA, Model, frozen
    from .policy.scoring import completion_hidden
    from .sampling.hf import HFSampler
    from .sampling.sampler import Sampling
    from .training.config import TrainingConfig
    from .training.run import resume_run, start_run

__version__ = "0.1.0"

__all__ = [
    "JSD",
    "ForwardKL",
    "HFSampler",
    "LoRA",
    "MathGrader",
    "Model",
    "PMITarget",
    "PromptBuilder",
    "ReverseKL",
    "Sampling",
    "SequenceMean",
    "TeacherTarget",
    "TokenMean",
    "TrainingConfig",
    "TrainingSet",
    "alignment",
    "chunked_loss",
    "completion_hidden",
    "decompose",
    "evaluate",
    "frozen",
    "load_examples",
    "load_policy",
    "loss_from_logits",
    "marker_counts",
    "norm_fraction",
    "read_tokens",
    "resume_run",
    "start_run",
    "token_weights",
]

_MODULE_OF = {
    # The losses, and what they are made of.
    "chunked_loss": "objective.chunked_loss",
    "loss_from_logits": "objective.loss",
    "PMITarget": "objective.targets",
    "TeacherTarget": "objective.targets",
    "JSD": "objective.divergences",
    "ForwardKL": "objective.divergences",
    "ReverseKL": "objective.divergences",
    "SequenceMean": "objective.averaging",
    "TokenMean": "objective.averaging",
    "token_weights": "objective.averaging",
    # The teacher's pull taken apart.
    "decompose": "objective.decomposition",
    "alignment": "objective.decomposition",
    "norm_fraction": "objective.decomposition",
    # The student and the frozen base.
    "Model": "policy.model",
    "LoRA": "policy.model",
    "load_policy": "policy.loading",
    "frozen": "policy.model",
    "completion_hidden": "policy.scoring",
    "Sampling": "sampling.sampler",
    "HFSampler": "sampling.hf",
    # Data and runs.
    "TrainingSet": "data.dataset",
    "load_examples": "data.dataset",
    "PromptBuilder": "data.prompts",
    "TrainingConfig": "training.config",
    "start_run": "training.run",
    "resume_run": "training.run",
    # Measures.
    "read_tokens": "analysis.token_readout",
    "marker_counts": "analysis.markers",
    "MathGrader": "evaluation.grading.graders",
    "evaluate": "evaluation.evaluate",
}


if not TYPE_CHECKING:  # which would otherwise take any misspelt name for one of these

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value  # the next look-up does not come here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
