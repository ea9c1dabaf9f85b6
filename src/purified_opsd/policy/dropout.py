"""A base without randomness of its own: only the adapter's dropout is ever active."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedConfig, PreTrainedModel

from purified_opsd.errors import ModelError

from .lm_head import decoder_of

NOISE = ("drop", "jitter")
"""What the names of such settings have in them, in every family: attention_dropout, resid_pdrop,
layerdrop, router_jitter_noise."""
PROBE_TOKENS = 64
ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 0.01}
"""What rounding may change of a token's states, relative to their norm, by the model's dtype."""


def silence_dropout(base: PreTrainedModel, path: str) -> None:
    """Sets every probability of dropout, layer drop and router noise in the base to 0: those of its
    dropout modules, those that its modules keep as numbers, and those read from its configuration
    as it runs.

    Raises ModelError where its states in training mode then still differ from those that it had in
    evaluation mode: by a chance under another name, or because such a setting decides more than
    chance (Phi-MoE's `router_jitter_noise`).
    """
    training = base.training
    ids_1S = _probe(base)
    expected = _hidden(base.eval(), ids_1S)
    for module in base.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        _zero_noise(vars(module))
    for config in _configs(base.config):
        _zero_noise(vars(config))
    got = _hidden(base.train(), ids_1S)
    base.train(training)
    difference_1S = (got - expected).norm(dim=-1) / expected.norm(dim=-1)
    if difference_1S.max() > ROUNDING[base.dtype]:
        raise ModelError(
            f"{path} computes something else in training mode than in evaluation mode: it has a "
            "randomness of its own (dropout, layer drop, noise) under a name that is not known "
            "here, or one that decides more than chance, as Phi-MoE's router has. It would act on "
            "the student alone, and pass for a difference between student and teacher. Set it to 0 "
            "in the model's config.json or code, if the model allows that."
        )


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


def _probe(base: PreTrainedModel) -> Tensor:
    """Some tokens, spread over the vocabulary."""
    generator = torch.Generator().manual_seed(0)
    rows = cast(nn.Embedding, base.get_input_embeddings()).num_embeddings
    ids_1S = torch.randint(rows, (1, PROBE_TOKENS), generator=generator)
    return ids_1S.to(base.device)


@torch.no_grad()
def _hidden(base: PreTrainedModel, ids_1S: Tensor) -> Tensor:
    decoder: nn.Module = decoder_of(base)
    return decoder(input_ids=ids_1S, use_cache=False).last_hidden_state.float()
