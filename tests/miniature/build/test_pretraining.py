"""The training that makes the weights: seeded, it learns, and its optimizer does what its name
says.
"""

import dataclasses
import json

import pytest
import torch
import transformers

from purified_opsd.miniature.build.__main__ import save
from purified_opsd.miniature.build.card import Card
from purified_opsd.miniature.build.documents import document
from purified_opsd.miniature.build.measurement import Measurement
from purified_opsd.miniature.build.muon import orthogonalized
from purified_opsd.miniature.build.pretraining import (
    IGNORED,
    Pretraining,
    encode_documents,
    pretrain,
)

SMALL = Pretraining(steps=2, warmup_steps=1, documents_per_step=4, micro_batches=2)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tokenizer):
    first, again = (weights(pretrain(tokenizer, SMALL, print)) for _ in range(2))
    other = weights(pretrain(tokenizer, dataclasses.replace(SMALL, seed=1), print))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_micro_batches_do_not_change_the_step(tokenizer):
    """Muon turns tiny gradients into full steps, so the gradients themselves are compared: one step
    leaves no room to drift.
    """
    whole, split = (
        weights(
            pretrain(tokenizer, dataclasses.replace(SMALL, steps=1, micro_batches=parts), print)
        )
        for parts in (1, 4)
    )
    assert torch.allclose(whole, split, atol=1e-3)


def test_a_short_training_lowers_the_loss(tokenizer):
    seen = []
    settings = Pretraining(
        steps=16, warmup_steps=3, documents_per_step=6, micro_batches=1, report_every=8
    )
    pretrain(tokenizer, settings, seen.append)
    assert [progress.step for progress in seen] == [8, 16]
    assert seen[1].loss < seen[0].loss - 0.5
    assert seen[1].tokens > seen[0].tokens > 1_000


def test_the_learning_rate_rises_and_falls_to_nothing():
    settings = Pretraining(steps=1000, learning_rate=1.0, warmup_steps=10)
    rates = [settings.learning_rate_at(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[505] == pytest.approx(0.5, abs=0.01)
    assert rates[-1] < 1e-4


def test_only_the_assistants_turn_is_supervised(tokenizer):
    written = [document(0, index) for index in range(30)]
    for (ids, labels), made in zip(encode_documents(tokenizer, written), written, strict=True):
        supervised = [label for label in labels if label != IGNORED]
        assert tokenizer.decode(supervised) == made.completion + "<|end|>"
        assert ids[-len(supervised) :] == supervised
        assert tokenizer.decode(ids[: -len(supervised)]) == f"<|user|>{made.prompt}<|assistant|>"


def test_orthogonalized_matrices_have_singular_values_near_one_and_the_same_directions():
    matrices = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(0))
    made = orthogonalized(matrices)
    assert torch.linalg.svdvals(made).sub(1).abs().max() < 0.35
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ made @ v.mT
    assert (inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))).abs().max() < 1e-4
    assert torch.allclose(orthogonalized(matrices.mT), made.mT, atol=1e-6)


def test_a_saved_model_loads_with_the_logits_it_had(tokenizer, tmp_path):
    model = pretrain(tokenizer, SMALL, print)
    ids = torch.tensor([encode_documents(tokenizer, [document(0, 0)])[0][0]])
    before = model(ids).logits
    save(model, tokenizer, tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.allclose(loaded(ids).logits, before, atol=0.05)


def test_the_card_is_saved_twice_and_says_the_same(tmp_path):
    measured = Measurement(
        context="base",
        temperature=0.0,
        manner="no markers",
        questions=100,
        accuracy=0.7,
        standard_error=0.0458,
        right_at_first=0.2,
        ended=0.98,
        mean_tokens=75.2,
        markers=4.5,
        markers_per_1000_tokens=59.8,
        checks=1.25,
        checks_that_catch=None,
        slips=0.75,
        slips_mended=0.5,
    )
    card = Card(Pretraining(), 875_776, 4_200_000, 1200.0, (measured,))
    card.save(tmp_path)
    assert json.loads((tmp_path / "card.json").read_text())["measurements"][0]["accuracy"] == 0.7
    text = (tmp_path / "CARD.md").read_text()
    assert "875,776 parameters" in text
    assert "| base, no markers | greedy | 70.0 ± 4.6 | 20.0 | 75 | 98.0 | 4.50 | 60 | " in text
    assert " | 4.50 | 60 | 1.25 | none | 0.75 | 50 |" in text
