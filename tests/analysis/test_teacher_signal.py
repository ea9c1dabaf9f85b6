"""The diagnosis against float64 on full logits, and what must be true of any model."""

import pytest
import torch

from purified_opsd.analysis.teacher_signal import (
    Probe,
    _over_tokens,
    diagnose,
    measure,
    token_numbers,
)
from purified_opsd.data.dataset import Example
from purified_opsd.data.prompts import PromptBuilder, Prompts
from purified_opsd.objective.targets import PMITarget
from purified_opsd.policy.loading import load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.sampler import Sampling

N, D, V = 7, 16, 301


@pytest.fixture(scope="module")
def head():
    return 3 * torch.randn(V, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def hidden():
    draw = torch.Generator().manual_seed(2)
    return {
        name: torch.randn(N, D, generator=draw, dtype=torch.float64)
        for name in ("student", "base", "teacher", "reference")
    }


def cosine(a, b):
    return (a * b).sum(-1) / (a.pow(2).sum(-1).sqrt() * b.pow(2).sum(-1).sqrt())


def length(a):
    return a.pow(2).sum(-1).sqrt()


def test_every_number_is_that_of_full_float64_logits(hidden, head, monkeypatch):
    p = {name: (states @ head.T).softmax(-1) for name, states in hidden.items()}
    total, ref, it = (
        p[a].log() - p[b].log()
        for a, b in (("teacher", "student"), ("reference", "student"), ("teacher", "reference"))
    )
    signal = it - it.mean(-1, keepdim=True)
    target = p["base"] * (10 * torch.tanh(signal / 10)).exp()
    target = target / target.sum(-1, keepdim=True)
    q = p["student"]
    top = q.argsort(-1, descending=True)[:, :64]
    wanted = {
        "cos_ref": cosine(ref, total),
        "cos_it": cosine(it, total),
        "norm_fraction_ref": length(ref) / length(total),
        "norm_fraction_it": length(it) / length(total),
        "weighted_cos_ref": (q * ref * total).sum(-1)
        / ((q * ref**2).sum(-1) * (q * total**2).sum(-1)).sqrt(),
        "weighted_cos_it": (q * it * total).sum(-1)
        / ((q * it**2).sum(-1) * (q * total**2).sum(-1)).sqrt(),
        "top64_cos_ref": cosine(ref.gather(-1, top), total.gather(-1, top)),
        "top64_cos_it": cosine(it.gather(-1, top), total.gather(-1, top)),
        "kl_to_base": (q * (q / p["base"]).log()).sum(-1),
        "kl_to_teacher": (q * (q / p["teacher"]).log()).sum(-1),
        "kl_to_target": (q * (q / target).log()).sum(-1),
        "teacher_disagrees": (p["teacher"].argmax(-1) != p["base"].argmax(-1)).double(),
        "target_disagrees": (target.argmax(-1) != p["base"].argmax(-1)).double(),
    }
    for name, part in (("norm", total), ("norm_ref", ref), ("norm_it", it)):
        wanted |= {
            f"weighted_{name}": (q * part**2).sum(-1).sqrt(),
            f"top64_{name}": length(part.gather(-1, top)),
        }
    monkeypatch.setattr(
        "purified_opsd.analysis.teacher_signal.CHUNK_ELEMENTS", 2 * V
    )  # four chunks
    single = {name: states.float() for name, states in hidden.items()}
    found = token_numbers(single, lambda states: states @ head.float().T, PMITarget())
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        torch.testing.assert_close(found[name].double(), values, rtol=1e-4, atol=1e-4, msg=name)


def test_norm_fractions_of_a_view_are_ratios_of_sums():
    rows = {
        "cos_ref": [0.5, 0.7],
        "weighted_norm": [3.0, 1e-9],
        "weighted_norm_ref": [1.5, 1e-3],
        "weighted_norm_it": [3.0, 0.0],
    }
    rows |= {"top64_norm": [1.0, 1.0], "top64_norm_ref": [2.0, 4.0], "top64_norm_it": [1.0, 0.0]}
    found = _over_tokens(
        {name: torch.tensor(values, dtype=torch.float64) for name, values in rows.items()}
    )
    wanted = {
        "cos_ref": 0.6,
        "weighted_norm_fraction_ref": 1.501 / 3,
        "weighted_norm_fraction_it": 1.0,
    }
    assert found == pytest.approx(
        wanted | {"top64_norm_fraction_ref": 3.0, "top64_norm_fraction_it": 0.5}
    )


@pytest.fixture
def policy(tiny_model):
    settings = Model(str(tiny_model), dtype="float32", gradient_checkpointing=False)
    return load_policy(settings, LoRA(4, 8), load_tokenizer(settings), 0, torch.device("cpu"))


@pytest.fixture
def prompts(policy):
    builder = PromptBuilder(policy.tokenizer, Prompts(), 400)
    return [
        builder.contexts(Example(str(i), "1 + 1?" * (i + 1), "It is 2.", None, "here"))
        for i in range(3)
    ]


@pytest.fixture
def probe(policy):
    return Probe(HFSampler(policy.model, Sampling(max_new_tokens=6)), PMITarget(), 4096, 5)


def test_a_fresh_student_is_its_base(policy, prompts, probe):
    found = diagnose(policy, prompts, probe)
    assert [len(d.completion.ids) > 0 for d in found] == [True] * 3
    assert all(abs(d.numbers["kl_to_base"]) < 1e-6 for d in found)
    assert all(d.numbers["kl_to_teacher"] > 1e-4 for d in found)


def test_a_diagnosis_does_not_depend_on_how_it_is_batched(policy, prompts, probe):
    whole = diagnose(policy, prompts, probe)
    alone = diagnose(policy, prompts, Probe(probe.sampler, probe.target, 1, probe.seed))
    for one, other in zip(whole, alone, strict=True):
        assert one.completion.ids == other.completion.ids
        assert one.numbers == pytest.approx(other.numbers, rel=1e-3, abs=1e-5)


def test_a_trained_student_is_what_is_diagnosed(policy, prompts, probe):
    with torch.no_grad():
        for name, parameter in policy.adapter_parameters().items():
            if "lora_B" in name:
                parameter.add_(0.3)
    assert all(d.numbers["kl_to_base"] > 1e-3 for d in diagnose(policy, prompts, probe))


def test_measuring_takes_no_notice_of_dropout_and_leaves_the_model_in_training(
    tiny_model, prompts, probe
):
    settings = Model(str(tiny_model), dtype="float32", gradient_checkpointing=False)
    dropping = load_policy(
        settings, LoRA(4, 8, dropout=0.5), load_tokenizer(settings), 0, torch.device("cpu")
    )
    with torch.no_grad():
        for parameter in dropping.adapter_parameters().values():
            torch.nn.init.normal_(parameter, std=0.2)
    completions = HFSampler(dropping.model, Sampling(max_new_tokens=6)).generate(
        [p.base for p in prompts], [1, 2, 3]
    )
    dropping.model.train()
    state = torch.get_rng_state()
    first, second = (measure(dropping, prompts, completions, probe.target, 4096) for _ in range(2))
    assert [d.numbers for d in first] == [d.numbers for d in second]
    assert dropping.model.training
    assert torch.equal(torch.get_rng_state(), state)
