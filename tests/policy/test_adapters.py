"""An adapter from a folder: the one that PEFT itself would load, or an error that says what does
not fit.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config

from purified_opsd.errors import ModelError
from purified_opsd.policy.adapters import load_adapted
from purified_opsd.policy.loading import load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model, frozen

CPU = torch.device("cpu")


@pytest.fixture
def adapter(tiny_model, tmp_path):
    """A folder with an adapter that changes the model."""
    settings = Model(str(tiny_model), dtype="float32", gradient_checkpointing=False)
    policy = load_policy(settings, LoRA(4, 16), load_tokenizer(settings), 0, CPU)
    for parameter in policy.adapter_parameters().values():
        torch.nn.init.normal_(parameter, std=0.2)
    policy.model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    return tmp_path / "adapter"


def loaded(model: Path | str, adapter: Path):
    settings = Model(str(model), dtype="float32")
    return load_adapted(settings, adapter, load_tokenizer(settings), CPU)


def test_it_is_what_peft_loads_and_switched_off_it_is_the_base(tiny_model, adapter):
    ids = torch.arange(5, 25)[None]
    policy = loaded(tiny_model, adapter)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        with frozen(policy.model):
            torch.testing.assert_close(
                policy.model(input_ids=ids).logits, base(input_ids=ids).logits
            )
        apart = (policy.model(input_ids=ids).logits - base(input_ids=ids).logits).abs().max()
        expected = PeftModel.from_pretrained(base, adapter)(input_ids=ids).logits
        torch.testing.assert_close(policy.model(input_ids=ids).logits, expected)
    assert apart > 1


def test_a_folder_that_is_no_adapter(tiny_model, adapter, tmp_path):
    with pytest.raises(
        ModelError,
        match="gone is no adapter in PEFT's format: "
        "it has no adapter_config.json and no adapter_model",
    ):
        loaded(tiny_model, tmp_path / "gone")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(
        ModelError,
        match=r"it has no adapter_model.safetensors.*pickle format \(.bin\) are not read",
    ):
        loaded(tiny_model, adapter)


def test_another_base(tiny_model, adapter, tmp_path):
    wider = Qwen3Config.from_pretrained(tiny_model, intermediate_size=64)
    AutoModelForCausalLM.from_config(wider).save_pretrained(tmp_path / "wider")
    for file in tiny_model.glob("*token*"):
        shutil.copy(file, tmp_path / "wider")
    with pytest.raises(
        ModelError,
        match=r"does not fit .*wider: of .*down_proj.*lora_A.* \(4, 48\), "
        r"and the model .* wants \(4, 64\).*names .*tiny\.",
    ):
        loaded(tmp_path / "wider", adapter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"r": 8},
            r"of .*lora_A.weight it holds \(4, \d+\), "
            r"and the model with the settings in adapter_config.json wants \(8, ",
        ),
        (
            {"target_modules": ["c_attn"]},
            r"PEFT finds no place for it \(Target modules .*c_attn.* names .*tiny as its base",
        ),
        (
            {"target_modules": ["q_proj"]},
            r"of .*lora_A.weight it holds \(4, \d+\), and the model .* wants nothing",
        ),
        ({"peft_type": "IA3"}, "is of kind IA3; only LoRA adapters are evaluated"),
        ({"bias": "lora_only"}, "says bias: lora_only: the adapter's files replace biases of the"),
    ],
    ids=["rank", "no such layers", "fewer layers", "kind", "biases"],
)
def test_a_configuration_of_something_else(tiny_model, adapter, change, message):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        loaded(tiny_model, adapter)


def test_tensors_that_are_missing_or_damaged(tiny_model, adapter):
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    gone = max(tensors)
    save_file({name: tensor for name, tensor in tensors.items() if name != gone}, file)
    with pytest.raises(ModelError, match=r"it holds nothing, and the model .* wants \("):
        loaded(tiny_model, adapter)
    file.write_bytes(b"oops")
    with pytest.raises(ModelError, match=r"adapter_model.safetensors is damaged"):
        loaded(tiny_model, adapter)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config.json is damaged"):
        loaded(tiny_model, adapter)
