"""Hidden states at completion positions against the model's own logits, for every family."""

import torch

from purified_opsd.policy.lm_head import ModelHead, find_head
from purified_opsd.policy.model import frozen
from purified_opsd.policy.scoring import completion_hidden, contexts_hidden

from .conftest import build

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [15]]
COMPLETIONS = [[20, 21, 22, 23], [30, 1], [40, 41, 42, 43, 44, 45]]


def own_logits(model, prompt, completion):
    """The model's logits that predict the completion, one sequence alone, nothing padded."""
    with torch.no_grad():
        return (
            model(input_ids=torch.tensor([prompt + completion]))
            .logits[0, len(prompt) - 1 : -1]
            .float()
        )


def test_head_of_the_states_gives_the_models_own_logits(student):
    head = find_head(student.get_base_model())
    with torch.no_grad():
        logits = head(completion_hidden(student, PROMPTS, COMPLETIONS))
    expected = torch.cat(
        [own_logits(student, p, c) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    )
    assert expected.std() > 0.5
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_only_the_soft_capped_head_is_found_not_to_be_linear(family, student):
    head = find_head(student.get_base_model())
    assert isinstance(head, ModelHead) == (family == "gemma2")


def test_the_models_own_head_takes_states_of_a_bfloat16_model_and_gives_unrounded_logits(student):
    half = student.to(torch.bfloat16)
    hidden_ND = completion_hidden(half, PROMPTS, COMPLETIONS).detach()
    logits = ModelHead(half.get_base_model())(hidden_ND)
    assert logits.dtype == torch.float32
    assert (logits != logits.bfloat16().float()).any()
    wide = ModelHead(student.float().get_base_model())
    torch.testing.assert_close(logits, wide(hidden_ND.float()), rtol=1e-2, atol=1e-2)


def test_order_and_company_change_nothing(qwen):
    together = completion_hidden(qwen, PROMPTS, COMPLETIONS)
    alone = torch.cat(
        [completion_hidden(qwen, [p], [c]) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    reverse = completion_hidden(qwen, PROMPTS[::-1], COMPLETIONS[::-1])
    torch.testing.assert_close(
        torch.cat(list(reverse.split([6, 2, 4]))[::-1]), together, rtol=1e-4, atol=1e-5
    )


def test_contexts_are_the_same_tokens_under_each_prompt_whatever_the_budget(qwen):
    prompts = {"teacher": [p + [50] * 9 for p in PROMPTS], "base": PROMPTS}
    expected = {
        name: completion_hidden(qwen, p, COMPLETIONS).detach() for name, p in prompts.items()
    }
    for budget in (1, 20, 10_000):
        states = contexts_hidden(qwen, prompts, COMPLETIONS, budget)
        for name in prompts:
            torch.testing.assert_close(states[name], expected[name], rtol=1e-4, atol=1e-5)
            assert not states[name].requires_grad


def test_frozen_is_the_base_without_its_adapter(qwen):
    adapted = completion_hidden(qwen, PROMPTS, COMPLETIONS)
    qwen.train()
    with frozen(qwen):
        base = completion_hidden(qwen, PROMPTS, COMPLETIONS)
        assert not qwen.training
    assert qwen.training
    assert not base.requires_grad
    assert adapted.requires_grad
    assert (base - adapted).abs().max() > 0.01
    without = (
        build("qwen3")
        .get_decoder()(input_ids=torch.tensor([PROMPTS[0] + COMPLETIONS[0][:-1]]))
        .last_hidden_state
    )
    torch.testing.assert_close(
        base[: len(COMPLETIONS[0])], without[0, len(PROMPTS[0]) - 1 :], rtol=1e-4, atol=1e-5
    )


def test_gradient_reaches_the_adapter_and_nothing_else(qwen):
    completion_hidden(qwen, PROMPTS, COMPLETIONS).square().sum().backward()
    with_gradient = {name for name, p in qwen.named_parameters() if p.grad is not None}
    assert with_gradient
    assert all("lora_" in name for name in with_gradient)
