"""What the microscope tells of each token, against a float64 computation on full logits of the
miniature.
"""

import copy

import pytest
import torch

from purified_opsd import miniature
from purified_opsd.analysis import token_readout
from purified_opsd.analysis.teacher_signal import hidden_states
from purified_opsd.analysis.token_readout import read_tokens
from purified_opsd.data.dataset import TrainingSet, load_examples
from purified_opsd.data.prompts import PromptBuilder, Prompts
from purified_opsd.objective.targets import PMITarget
from purified_opsd.policy.lm_head import ModelHead
from purified_opsd.policy.loading import load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model, frozen
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.sampler import Sampling

TARGET = PMITarget(beta=0.7, clip=3.0)


@pytest.fixture(scope="module")
def trained():
    """The miniature with an adapter that is not zero, one question's contexts and a completion."""
    settings = Model(str(miniature.BASE), dtype="float32", gradient_checkpointing=False)
    policy = load_policy(settings, LoRA(8, 16), load_tokenizer(settings), 0, torch.device("cpu"))
    draw = torch.Generator().manual_seed(3)
    for name, parameter in policy.adapter_parameters().items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02, generator=draw)
    example = load_examples(TrainingSet(str(miniature.TRAINING_SET))).rows[7]
    contexts = PromptBuilder(policy.tokenizer, Prompts(), 400).contexts(example)
    (completion,) = HFSampler(policy.model, Sampling(1.0, 1.0, 0, 120)).generate(
        [contexts.base], [2]
    )
    return policy, contexts, completion.ids


@pytest.fixture(scope="module")
def readings(trained):
    policy, contexts, ids = trained
    hidden = hidden_states(policy, [contexts], [ids], 4096)
    return read_tokens(hidden, torch.tensor(ids), ModelHead(policy.base), TARGET)


@pytest.fixture(scope="module")
def exact(trained):
    """The five distributions in float64: the model's own logits, one unpadded sequence a context,
    and Eqs. 13 to 16 by hand.
    """
    policy, contexts, ids = trained
    model = copy.deepcopy(policy.model).double()

    def probabilities(prompt):
        return (
            model(input_ids=torch.tensor([prompt + ids]))
            .logits[0, len(prompt) - 1 : -1]
            .softmax(-1)
        )

    with torch.no_grad():
        p = {"student": probabilities(contexts.base)}
    with frozen(model):
        prompts = {
            "base": contexts.base,
            "teacher": contexts.teacher,
            "reference": contexts.reference,
        }
        p |= {name: probabilities(prompt) for name, prompt in prompts.items()}
    delta = p["teacher"].log() - p["reference"].log()
    clipped = 3.0 * torch.tanh((delta - delta.mean(-1, keepdim=True)) / 3.0)
    tilted = p["base"] * (clipped / 0.7).exp()
    return p | {"target": tilted / tilted.sum(-1, keepdim=True)}


def jsd(p, q):
    m = (p + q) / 2
    return ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2


def test_every_number_of_every_token(trained, readings, exact):
    ids = torch.tensor(trained[2])
    own = {name: p.gather(-1, ids[:, None]).squeeze(-1) for name, p in exact.items()}
    ratio = {(a, b): own[a].log() - own[b].log() for a in own for b in own}
    wanted = {
        "jsd_target": jsd(exact["student"], exact["target"]),
        "jsd_teacher": jsd(exact["student"], exact["teacher"]),
        "delta_it": ratio["teacher", "reference"],
        "delta_ref": ratio["reference", "student"],
        "student_minus_base": ratio["student", "base"],
        "teacher_minus_base": ratio["teacher", "base"],
        "target_minus_base": ratio["target", "base"],
    }
    assert [reading.id for reading in readings] == trained[2]
    for name, values in wanted.items():
        found = torch.tensor([reading.numbers[name] for reading in readings], dtype=torch.float64)
        torch.testing.assert_close(found, values, rtol=1e-3, atol=1e-4, msg=name)
        assert values.abs().max() > 0.03, (
            name
        )  # nothing here is nearly zero, so the comparison says something
    for name, values in own.items():
        assert [reading.probabilities[name] for reading in readings] == pytest.approx(
            values.tolist(), abs=1e-5
        )


def test_top_tokens_of_every_distribution(readings, exact):
    for place, reading in enumerate(readings):
        for name, p in exact.items():
            tokens, values = zip(*reading.top[name], strict=True)
            assert values == pytest.approx(p[place].topk(8).values.tolist(), abs=1e-5)
            assert values == pytest.approx(p[place][list(tokens)].tolist(), abs=1e-5)


def test_what_the_target_raises_and_lowers_most(readings, exact):
    told = 0
    for place, reading in enumerate(readings):
        for anchor in ("base", "teacher"):
            change = exact["target"][place] - exact[anchor][place]
            for entries, sign in ((reading.raised[anchor], 1), (reading.lowered[anchor], -1)):
                wanted = [
                    gap for gap in (sign * change).topk(8).values.tolist() if gap >= 1e-4 + 1e-6
                ]
                gaps = [sign * (new - old) for _, old, new in entries]
                assert gaps[: len(wanted)] == pytest.approx(wanted, abs=1e-5)
                assert all(gap == pytest.approx(1e-4, abs=1e-6) for gap in gaps[len(wanted) :])
                assert [sign * change[token].item() for token, *_ in entries] == pytest.approx(
                    gaps, abs=1e-5
                )
                told += len(entries)
    assert told > len(readings)


def test_chunks_change_nothing_and_bound_what_exists_at_once(trained, readings, monkeypatch):
    policy, contexts, ids = trained
    hidden, head, seen = (
        hidden_states(policy, [contexts], [ids], 4096),
        ModelHead(policy.base),
        [],
    )

    def counting(states):
        seen.append(len(states))
        return head(states)

    monkeypatch.setattr(token_readout, "CHUNK_ELEMENTS", 7 * head(hidden["base"][:1]).shape[-1])
    found = read_tokens(hidden, torch.tensor(ids), counting, TARGET)
    assert max(seen) == 7
    assert [reading.id for reading in found] == ids
    for one, other in zip(found, readings, strict=True):
        assert one.numbers == pytest.approx(other.numbers, abs=1e-5)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_a_state_that_is_not_finite_is_an_error(trained):
    policy, contexts, ids = trained
    hidden = hidden_states(policy, [contexts], [ids], 4096)
    hidden["teacher"] = hidden["teacher"].clone()
    hidden["teacher"][3, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="not finite.*earlier checkpoint"):
        read_tokens(hidden, torch.tensor(ids), ModelHead(policy.base), TARGET)
