"""A base without randomness of its own: only the adapter's dropout is ever active."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedConfig, PreTrainedModel

from purified_opsd.errors import ModelError

NOISE = ("drop", "jitter")
"""What the names of such settings have in them, in every family: attention_dropout, resid_pdrop,
layerdrop, router_jitter_noise."""
PROBE_TOKENS = 16


def silence_dropout(base: PreTrainedModel, path: str) -> None:
    """Sets every probability of dropout, layer drop and router noise in the base to 0: those of its
    dropout modules, those that its modules keep as numbers, and those read from its configuration
    as it runs.

    Raises ModelError where its logits in training mode still differ from those in evaluation mode.
    """
    for module in base.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        _zero_noise(vars(module))
    for config in _configs(base.config):
        _zero_noise(vars(config))
    _refuse_noise(base, path)


def _zero_noise(settings: dict[str, object]) -> None:
    for name, value in settings.items():
        if isinstance(value, float) and any(word in name for word in NOISE):
            settings[name] = 0.0


def _configs(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """A configuration and those inside of it."""
    yield config
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            yield from _configs(value)


def _refuse_noise(base: PreTrainedModel, path: str) -> None:
    training = base.training
    generator = torch.Generator().manual_seed(0)
    rows = cast(nn.Embedding, base.get_input_embeddings()).num_embeddings
    ids_1S = torch.randint(rows, (1, PROBE_TOKENS), generator=generator).to(base.device)
    expected = _hidden(base.eval(), ids_1S)
    got = _hidden(base.train(), ids_1S)
    base.train(training)
    # The two are one computation; a chance that acts moves them by far more than its rounding.
    if (got - expected).norm() > 0.01 * expected.norm():
        raise ModelError(
            f"{path} computes something else in training mode than in evaluation mode: it has a "
            "randomness of its own (dropout, layer drop, noise) under a name that is not known "
            "here. It would act on the student alone, and pass for a difference between student "
            "and teacher. Set it to 0 in the model's config.json or code."
        )


@torch.no_grad()
def _hidden(base: PreTrainedModel, ids_1S: Tensor) -> Tensor:
    decoder: nn.Module = base.get_decoder()
    return decoder(input_ids=ids_1S, use_cache=False).last_hidden_state.float()
