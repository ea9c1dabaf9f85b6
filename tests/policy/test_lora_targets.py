"""LoRA is on all that was asked for and on nothing else; the default fits the model."""

import pytest
import torch
from peft import get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM

from purified_opsd.errors import ModelError
from purified_opsd.policy.loading import load_base, load_policy, load_tokenizer
from purified_opsd.policy.lora_targets import SEVEN, peft_config
from purified_opsd.policy.model import LoRA, Model

from .folders import save
from .models import CONFIGS

CPU = torch.device("cpu")


@pytest.fixture
def saved(tiny_model, tmp_path):
    """Saves a family's model, and gives its settings."""

    def save_family(family: str, **changes) -> Model:
        torch.manual_seed(0)
        config = type(CONFIGS[family])(**CONFIGS[family].to_dict() | changes)
        config.get_text_config().vocab_size = 260  # the tokenizer's
        folder = tmp_path / family
        if not folder.exists():
            save(AutoModelForCausalLM.from_config(config), tiny_model, folder)
        return Model(str(folder), gradient_checkpointing=False)

    return save_family


@pytest.fixture
def load(saved):
    """Loads a family's model with an adapter on these targets; none: by default."""

    def load_family(family: str, targets: tuple[str, ...] | None = None, **changes):
        model = saved(family, **changes)
        return load_policy(model, LoRA(4, 8, targets), load_tokenizer(model), 0, CPU)

    return load_family


def adapted(model) -> list[str]:
    modules = model.get_base_model().named_modules()
    return [name for name, module in modules if isinstance(module, BaseTunerLayer)]


@pytest.mark.parametrize(
    ("family", "names", "modules"),
    [
        ("qwen3", {*SEVEN}, 14),
        ("phi3", {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}, 8),
        ("gpt-neox", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}, 8),
        ("gpt2", {"c_attn", "c_proj", "c_fc"}, 8),
        ("falcon", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}, 8),
        ("mixtral", {"q_proj", "k_proj", "v_proj", "o_proj"}, 8),
        ("qwen3-moe", {"q_proj", "k_proj", "v_proj", "o_proj"}, 8),
        ("deepseek-v3", {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"}, 10),
    ],
)
def test_the_default_is_the_models_own_linear_layers(saved, family, names, modules):
    model = saved(family)
    base = load_base(model, CPU)
    layers = adapted(get_peft_model(base, peft_config(LoRA(4, 8), base, model.path)))
    assert {name.rsplit(".", 1)[-1] for name in layers} == names
    assert len(layers) == modules


def test_the_default_adapter_is_that_of_the_seven_names_to_the_bit(load):
    default, named = load("qwen3").adapter_parameters(), load("qwen3", SEVEN).adapter_parameters()
    assert default.keys() == named.keys()
    assert all(torch.equal(tensor, named[name]) for name, tensor in default.items())


def test_a_tower_that_sees_images_is_left_alone(load):
    layers = adapted(load("gemma3-vision").model)
    assert len(layers) == 14
    assert all("language_model" in name for name in layers)
    with pytest.raises(ModelError, match="LoRA finds no layers out_proj in .*gemma3-vision"):
        load("gemma3-vision", ("q_proj", "out_proj"))  # which is the tower's alone


@pytest.mark.parametrize(
    ("targets", "unmatched"),
    [
        (("q_proj", "v_prj"), "v_prj"),
        (("q_proj", "c_attn", "wqkv"), "c_attn, wqkv"),
        (("q_proj", ".*_proj"), r".*_proj"),
        (("q_proj", ""), "''"),
        (("q_proj", "layers.7.self_attn.v_proj"), "layers.7.self_attn.v_proj"),
        (("self_attn.q_proj", "mlp.q_proj"), "mlp.q_proj"),
    ],
)
def test_every_name_must_be_a_layer(load, targets, unmatched):
    with pytest.raises(ModelError) as caught:
        load("qwen3", targets)
    message = str(caught.value)
    assert f"finds no layers {unmatched} in " in message
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in message
    assert "Did you mean v_proj?" in message or "v_prj" not in targets


def test_the_seven_names_on_fused_layers(load):
    with pytest.raises(ModelError, match=r"finds no layers q_proj, k_proj, v_proj, gate_proj, up_"):
        load("phi3", SEVEN)


def test_a_part_of_a_path_is_a_name(load):
    assert adapted(load("qwen3", ("layers.1.self_attn.q_proj",)).model) == [
        "model.layers.1.self_attn.q_proj"
    ]


def test_a_layer_that_lora_cannot_be_put_on(load):
    with pytest.raises(ModelError, match=r"PEFT refuses the adapter .*input_layernorm"):
        load("qwen3", ("q_proj", "input_layernorm"))


@pytest.mark.parametrize("family", ["mixtral", "qwen3-moe"])
@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "gate_proj")])
def test_experts_and_routers_stay_frozen(load, family, targets):
    with pytest.raises(ModelError, match=r"experts or routers here|finds no layers|they are fused"):
        load(family, targets)


def test_all_linear_stands_alone():
    with pytest.raises(ValueError, match="says all-linear beside other names"):
        LoRA(targets=("all-linear", "q_proj"))


@pytest.mark.parametrize("targets", [("embed_tokens",), ("q_proj", "embed_tokens")])
def test_the_embedding_that_is_the_head_is_refused(load, targets):
    with pytest.raises(ModelError, match=r"puts LoRA on the embedding of .*which is its head, too"):
        load("qwen3", targets, tie_word_embeddings=True)
    assert len(adapted(load("qwen3", ("all-linear",), tie_word_embeddings=True).model)) == 14


def test_the_embedding_of_its_own_is_trained(load):
    assert adapted(load("qwen3", ("embed_tokens",)).model) == ["model.embed_tokens"]


def test_the_command_says_what_is_trained_and_refuses_a_part(command, settings):
    code, output, errors = command("train", settings, "--steps", 1, "--output-dir", "run")
    assert code == 0
    assert "LoRA on 14 modules (down_proj, gate_proj, k_proj, o_proj, " in output + errors
    code, _, errors = command(
        *("train", settings, "--output-dir", "other", "--adapter.targets", "q_proj", "v_prj")
    )
    assert code == 4
    assert "finds no layers v_prj" in errors
