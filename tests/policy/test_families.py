"""Mixtures of experts and hybrids of attention with recurrent layers: what is trained, drawn and
kept of each is held to the model's own logits, of one row alone.
"""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from purified_opsd.errors import ModelError
from purified_opsd.objective.chunked_loss import chunked_loss
from purified_opsd.objective.divergences import JSD
from purified_opsd.objective.loss import loss_from_logits
from purified_opsd.objective.targets import PMITarget
from purified_opsd.policy.adapters import load_adapted
from purified_opsd.policy.lm_head import find_head
from purified_opsd.policy.loading import load_base, load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model, Policy, frozen
from purified_opsd.policy.scoring import completion_hidden
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.sampler import Sampling

from ..conftest import byte_tokenizer
from .families import EXPERTS, HYBRIDS, REFUSED, save_tiny

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19], [20], [5, 6, 7]]
COMPLETIONS = [[30, 31, 32, 33], [40, 41, 42, 43, 44, 45, 46, 47, 48], [50, 1], [60, 61, 62]]
PROBES = {
    "teacher": [[70, *prompt, 71, 72] for prompt in PROMPTS],
    "reference": [[73, 74, 75, 76, 77], [78], [79, 80], [81, 82, 83]],
    "base": PROMPTS,
}
JSD_HALF, PMI = JSD(), PMITarget()


@pytest.fixture(scope="module", params=[*EXPERTS, *HYBRIDS])
def folder(request, tmp_path_factory):
    family = request.param
    place = tmp_path_factory.mktemp("families") / family
    return save_tiny(place, family, (EXPERTS | HYBRIDS)[family], byte_tokenizer())


@pytest.fixture
def policy(folder) -> Policy:
    """As training loads it, with an adapter that is not zero."""
    settings = Model(str(folder), dtype="float32")
    loaded = load_policy(settings, LoRA(rank=4, alpha=8), load_tokenizer(settings), 0, CPU)
    for name, parameter in loaded.adapter_parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return loaded


def own_logits(policy, prompts, completions):
    """The model's logits that predict each completion, from one sequence at a time."""
    pieces = []
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = torch.tensor([[*prompt, *completion]])
        logits = policy.model(input_ids=ids, use_cache=False).logits
        pieces.append(logits[0, len(prompt) - 1 : -1])
    return torch.cat(pieces)


def gradients(policy, loss):
    policy.model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in policy.adapter_parameters().items()}


def test_loss_and_gradient_are_those_of_the_models_own_logits(policy):
    """Rows padded to one batch and the head in chunks, in training mode with checkpointing, against
    full logits of each row alone.  An auxiliary loss or a router that sees padding would show.
    """
    policy.model.train()
    N = sum(map(len, COMPLETIONS))
    weight_N = torch.full((N,), 1 / N)
    loss_of = {"target": PMI, "divergence": JSD_HALF}

    student_ND = completion_hidden(policy.model, PROMPTS, COMPLETIONS)
    with frozen(policy.model):
        contexts_ND = {
            name: completion_hidden(policy.model, prompts, COMPLETIONS)
            for name, prompts in PROBES.items()
        }
    loss = chunked_loss(student_ND, contexts_ND, policy.head, weight_N, **loss_of, chunk_rows=5)
    gradient = gradients(policy, loss)

    policy.model.eval()
    with frozen(policy.model):
        contexts_NV = {
            name: own_logits(policy, prompts, COMPLETIONS) for name, prompts in PROBES.items()
        }
    student_NV = own_logits(policy, PROMPTS, COMPLETIONS)
    assert student_NV.std() > 0.5
    expected = loss_from_logits(student_NV, contexts_NV, weight_N, **loss_of)
    expected_gradient = gradients(policy, expected)

    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)
    largest = max(g.abs().max() for g in expected_gradient.values())
    assert largest > 1e-4
    for name, part in expected_gradient.items():
        torch.testing.assert_close(gradient[name], part, rtol=1e-3, atol=1e-4 * largest, msg=name)


def test_the_head_of_the_models_own_takes_the_states(policy):
    """find_head compares the two; a family with a scale after its head takes this way."""
    hidden_ND = completion_hidden(policy.model, PROMPTS, COMPLETIONS).detach()
    with torch.no_grad():
        logits = find_head(policy.base)(hidden_ND)
        expected = own_logits(policy, PROMPTS, COMPLETIONS)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_routers_and_the_base_are_not_trained(policy):
    trained = policy.adapter_parameters()
    assert trained
    assert all("lora_" in name for name in trained)
    assert not any(".gate." in name or ".router." in name for name in trained)


def test_what_is_drawn_is_scored_alike(policy):
    """Rows of unlike length, two of one prompt, that leave the batch as they end."""
    sampling = Sampling(temperature=1.3, top_p=1.0, top_k=0, max_new_tokens=14)
    policy.base.generation_config.eos_token_id = list(range(1, 260, 7))
    sampler = HFSampler(policy.model, sampling)
    completions = sampler.generate(PROMPTS, [1, 2, 3, 4])
    assert len({len(completion.ids) for completion in completions}) > 1
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        with torch.no_grad():
            logits = own_logits(policy, [prompt], [completion.ids]).log_softmax(-1)
        scored = logits.gather(-1, torch.tensor(completion.ids)[:, None]).squeeze(-1)
        assert completion.log_probs == pytest.approx(scored.tolist(), abs=1e-3)


def test_frozen_is_the_base_alone(policy, folder):
    adapted = completion_hidden(policy.model, PROMPTS, COMPLETIONS).detach()
    with frozen(policy.model):
        base = completion_hidden(policy.model, PROMPTS, COMPLETIONS)
    settings = Model(str(folder), dtype="float32")
    fresh = load_policy(settings, LoRA(rank=4, alpha=8), policy.tokenizer, 0, CPU)
    expected = completion_hidden(fresh.model, PROMPTS, COMPLETIONS).detach()
    torch.testing.assert_close(base, expected, rtol=1e-4, atol=1e-5)
    assert (adapted - base).abs().max() > 1e-3
    assert fresh.fingerprint() == policy.fingerprint()


def test_an_adapter_comes_back_from_its_folder(policy, folder, tmp_path):
    policy.model.save_pretrained(tmp_path)
    settings = Model(str(folder), dtype="float32")
    again = load_adapted(settings, tmp_path, policy.tokenizer, CPU)
    expected = completion_hidden(policy.model, PROMPTS, COMPLETIONS)
    loaded = completion_hidden(again.model, PROMPTS, COMPLETIONS)
    torch.testing.assert_close(loaded, expected, rtol=1e-5, atol=1e-6)


def test_a_run_trains_it_by_the_command(folder, command, settings, tmp_path):
    run = ["--model.path", folder, "--output-dir", tmp_path / "run", "--steps", 1]
    code, _, errors = command("train", settings, *run)
    assert code == 0, errors
    assert (tmp_path / "run" / "checkpoints" / "step-000001" / "adapter").is_dir()


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("mamba", "is not in its cache"),
        ("mamba2", "is not in its cache"),
        ("recurrent_gemma", "is not in its cache"),
        ("rwkv", "padding on the left of a prompt changes its logits"),
        ("minimax", "with the cache of transformers it ends in ValueError: MiniMax uses"),
        ("bert", "it is not a causal language model"),
        ("bart", "padding on the left of a prompt changes its logits"),
        ("phimoe", "computes something else in training mode than in evaluation mode"),
    ],
)
def test_a_model_that_cannot_be_drawn_from_as_it_is_scored_is_refused(family, reason, tmp_path):
    folder = save_tiny(tmp_path / family, family, REFUSED[family], byte_tokenizer())
    settings = Model(str(folder), dtype="float32")
    linears = {
        "mamba": "in_proj",
        "mamba2": "in_proj",
        "rwkv": "key",
        "bert": "query",
    }
    adapter = LoRA(rank=2, alpha=2, targets=(linears.get(family, "q_proj"),))
    with pytest.raises(ModelError, match=reason) as caught:
        load_policy(settings, adapter, load_tokenizer(settings), 0, CPU)
    assert family == "phimoe" or "docs/models.md" in str(caught.value)


def test_weights_of_double_precision_are_loaded_in_another_or_refused(tmp_path):
    folder = save_tiny(tmp_path / "wide", "qwen3", {}, byte_tokenizer())
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"is in float64.* --model\.dtype float32"):
        load_base(Model(str(folder)), CPU)
    assert load_base(Model(str(folder), dtype="float32"), CPU).dtype == torch.float32


def test_the_check_takes_no_offence_at_rounding(tmp_path):
    folder = save_tiny(tmp_path / "half", "qwen3_moe", EXPERTS["qwen3_moe"], byte_tokenizer())
    settings = Model(str(folder), dtype="bfloat16")
    policy = load_policy(
        settings, replace(LoRA(), rank=4, alpha=8), load_tokenizer(settings), 0, CPU
    )
    assert policy.base.dtype == torch.bfloat16


@pytest.mark.parametrize("targets", [("q_proj", "dt_proj"), ("all-linear",)])
def test_a_layer_that_the_model_never_calls_is_no_target(tmp_path, targets):
    """Jamba reads the weight of dt_proj: an adapter on the layer would never act."""
    folder = save_tiny(tmp_path / "jamba", "jamba", HYBRIDS["jamba"], byte_tokenizer())
    settings = Model(str(folder), dtype="float32")
    adapter = LoRA(rank=4, alpha=8, targets=targets)
    with pytest.raises(ModelError, match=r"mamba\.dt_proj of .* would never act\. Leave dt_proj"):
        load_policy(settings, adapter, load_tokenizer(settings), 0, CPU)
