"""A model's head: from its decoder's last hidden states to logits.

N rows of hidden states, D hidden size, V rows of the head.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from purified_opsd.errors import ModelError


class ModelHead:
    """What a model does after its decoder, whatever that is: soft-capped, scaled, or linear.

    Runs the model's own forward pass with the decoder replaced by the given hidden states and the
    output layer's weights in float32 or wider (a copy, kept, where the model is in less), so that
    logits are not rounded to the model's dtype.

    The states are handed over in an output of the decoder's own class, of which a model may read
    more than the states: a mixture of experts asks it for `router_logits`.
    """

    def __init__(self, base: PreTrainedModel):
        output = output_layer(base)
        (name,) = (name for name, module in base.named_modules() if module is output)
        self.base = base
        self.decoder_output = _decoder_output(base)
        self.wide: dict[str, Tensor] = {}
        for part, parameter in output.named_parameters():
            weight = parameter.detach()
            self.wide[f"{name}.{part}"] = _wide(weight)

    def __call__(self, hidden_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        # 1. What the decoder is to return, for a batch of one sequence.
        hidden_1ND = _wide(hidden_ND)[None]
        states = replace(self.decoder_output, last_hidden_state=hidden_1ND)
        # 2. Tokens, which the model asks for and the decoder that is replaced does not read.
        N = len(hidden_ND)
        token_1N = torch.zeros(1, N, dtype=torch.long, device=hidden_ND.device)
        inputs = {"input_ids": token_1N, "use_cache": False}
        # 3. The model's own forward pass around that.
        decoder = decoder_of(self.base)
        with _replaced_forward(decoder, lambda *_, **__: states):
            output = torch.func.functional_call(self.base, self.wide, (), inputs)
        return output.logits[0]


def _decoder_output(base: PreTrainedModel) -> BaseModelOutputWithPast:
    """What the decoder returns, of one token."""
    token_11 = torch.zeros(1, 1, dtype=torch.long, device=base.device)
    with torch.no_grad():
        return decoder_of(base)(input_ids=token_11, use_cache=False)


def _wide(tensor: Tensor) -> Tensor:
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.to(dtype)


@contextmanager
def _replaced_forward(module: nn.Module, forward: Callable) -> Iterator[None]:
    """`module(...)` calls `forward` instead of its own."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def find_head(base: PreTrainedModel) -> nn.Linear | ModelHead:
    """The output layer itself where the model's logits are just its product with the last hidden
    states; else the model's own head.

    The two are compared on random hidden states; no model's name and no configuration key decides.
    """
    output = output_layer(base)
    own = ModelHead(base)
    if not isinstance(output, nn.Linear):
        return own
    D = base.config.get_text_config().hidden_size
    generator = torch.Generator().manual_seed(0)
    normal_ND = torch.randn(8, D, generator=generator)
    hidden_ND = normal_ND.to(base.device) * 4
    with torch.no_grad():
        logits_NV = own(hidden_ND)
        weight_VD = output.weight.float()
        bias_V = None if output.bias is None else output.bias.float()
        linear_NV = nn.functional.linear(hidden_ND, weight_VD, bias_V)
    same = torch.allclose(logits_NV, linear_NV, rtol=1e-4, atol=1e-5)
    return output if same else own


def output_layer(base: PreTrainedModel) -> nn.Module:
    """The module whose weights are the head's."""
    return cast(nn.Module, base.get_output_embeddings())


def decoder_of(base: PreTrainedModel) -> nn.Module:
    """All of a model before its head.  Raises ModelError where it is not a module of its own."""
    decoder = base.get_decoder()
    if decoder is not base:
        return decoder
    # transformers looks for it by name, and not every family has one of the names.
    inner = [module for module in base.children() if isinstance(module, PreTrainedModel)]
    if len(inner) != 1:
        raise ModelError(
            f"{type(base).__name__} has no decoder apart from its head, and the loss needs the "
            "states that come in between. docs/models.md lists families that work."
        )
    return inner[0]
