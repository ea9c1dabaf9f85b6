"""Loading, and what a user is told when it cannot work."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from purified_opsd.errors import ModelError
from purified_opsd.policy.loading import load_base, load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model

CPU = torch.device("cpu")


SMALL = LoRA(rank=4, alpha=8)


def policy(folder, adapter=SMALL, seed=0, **settings):
    model = Model(str(folder), **settings)
    return load_policy(model, adapter, load_tokenizer(model), seed, CPU)


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "copy")


def test_a_fresh_adapter_is_a_function_of_its_seed_and_changes_nothing(tiny_model):
    first, again, other = (policy(tiny_model, seed=seed) for seed in (1, 1, 2))
    tensors = [
        torch.cat([p.flatten() for p in x.adapter_parameters().values()])
        for x in (first, again, other)
    ]
    assert torch.equal(tensors[0], tensors[1])
    assert not torch.equal(tensors[0], tensors[2])
    assert all(
        p.abs().max() == 0 for name, p in first.adapter_parameters().items() if "lora_B" in name
    )


def test_only_the_adapter_is_trained(tiny_model):
    loaded = policy(tiny_model)
    assert len(loaded.adapter_parameters()) == 2 * 7 * 2  # A and B, of seven layers, in two blocks
    assert all("lora_" in name for name in loaded.adapter_parameters())


def test_bfloat16_base_has_a_float32_adapter(tiny_model):
    loaded = policy(tiny_model, dtype="bfloat16")
    assert loaded.base.dtype == torch.bfloat16
    assert {p.dtype for p in loaded.adapter_parameters().values()} == {torch.float32}


def test_fingerprint_tells_weights_apart_and_ignores_the_adapter(tiny_model, copy):
    same = policy(tiny_model, seed=1).fingerprint()
    assert (
        policy(tiny_model, LoRA(rank=2, alpha=2, targets=("q_proj",)), seed=2).fingerprint() == same
    )
    tensors = load_file(copy / "model.safetensors")
    save_file(
        {k: v * 1.001 for k, v in tensors.items()},
        copy / "model.safetensors",
        metadata={"format": "pt"},
    )
    assert policy(copy).fingerprint() != same


def test_all_linear_leaves_the_head_alone(tiny_model):
    loaded = policy(tiny_model, LoRA(rank=2, alpha=2, targets=("all-linear",)))
    assert loaded.head is loaded.base.get_output_embeddings()
    assert not any("lm_head" in name for name in loaded.adapter_parameters())


def test_an_adapter_on_the_head_is_refused(tiny_model):
    with pytest.raises(
        ModelError,
        match=r"puts LoRA on the head of .*must therefore stay frozen.*Leave the head out",
    ):
        policy(tiny_model, LoRA(targets=("q_proj", "lm_head")))


def test_layers_that_do_not_exist_are_named_with_those_that_do(tiny_model):
    with pytest.raises(
        ModelError, match=r"no layers c_attn in .*down_proj, gate_proj, k_proj.*or say all-linear"
    ):
        policy(tiny_model, LoRA(targets=("c_attn",)))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer_config.json"])
def test_a_folder_with_a_piece_missing_is_told_which(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(
        ModelError,
        match=f"The model folder .*copy has no .*{missing.rpartition('.')[2]}.*Give a hub id",
    ):
        policy(copy)


def test_pickled_weights_are_not_read(copy):
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"has no \*\.safetensors.*pickle format \(\.bin\) are not read"
    ):
        load_base(Model(str(copy)), CPU)


def test_damaged_weights_are_an_error_of_ours(copy):
    (copy / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not a header....")
    with pytest.raises(ModelError, match=r"The model .*copy cannot be loaded"):
        load_base(Model(str(copy)), CPU)


def test_a_name_that_is_nowhere(tmp_path):
    with pytest.raises(
        ModelError,
        match="The tokenizer of nobody/nothing cannot be loaded.*Give a hub id that can be reached",
    ):
        load_tokenizer(Model("nobody/nothing"))


def test_remote_code_stays_off_unless_the_model_is_named(copy):
    """The folder brings code of its own; it must not run."""
    config = (
        (copy / "config.json").read_text().replace('"model_type": "qwen3"', '"model_type": "mine"')
    )
    config = config.replace(
        "{", '{"auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"},', 1
    )
    (copy / "config.json").write_text(config)
    (copy / "mine.py").write_text(f"open({str(copy / 'ran')!r}, 'w').close()\nraise RuntimeError")
    with pytest.raises(ModelError):
        load_base(Model(str(copy), trust_remote_code_of="another/model"), CPU)
    assert not (copy / "ran").exists()
    with pytest.raises(RuntimeError):
        load_base(Model(str(copy), trust_remote_code_of=str(copy)), CPU)
    assert (copy / "ran").exists()


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"targets": ()}])
def test_impossible_adapters_are_refused(wrong):
    with pytest.raises(ValueError, match="LoRA needs rank and alpha of at least 1"):
        LoRA(**wrong)
