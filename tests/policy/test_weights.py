"""A model's weights are those of its files, whole; whatever is not is refused by name."""

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config

from purified_opsd.errors import ModelError
from purified_opsd.policy.loading import load_base
from purified_opsd.policy.model import Model

from .folders import edit_json, edit_tensors, save, without

CPU = torch.device("cpu")


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "copy")


@pytest.fixture
def tied(tiny_model, tmp_path):
    """A folder whose head is its embedding."""
    config = Qwen3Config.from_pretrained(tiny_model, tie_word_embeddings=True)
    return save(AutoModelForCausalLM.from_config(config), tiny_model, tmp_path / "tied")


def refusal(folder) -> str:
    with pytest.raises(ModelError) as caught:
        load_base(Model(str(folder)), CPU)
    return str(caught.value)


@pytest.mark.parametrize(
    "gone",
    [
        "lm_head.weight",
        "model.norm.weight",
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.1.input_layernorm.weight",
    ],
)
def test_a_tensor_that_is_missing_is_named(copy, gone, capfd):
    edit_tensors(copy, without(gone))
    assert f"lack 1 of the 25 tensors that its config.json asks for: {gone}. They would" in refusal(
        copy
    )
    assert "LOAD REPORT" not in "".join(capfd.readouterr())


def test_a_missing_head_may_be_the_embedding(copy):
    edit_tensors(copy, without("lm_head"))
    assert "set tie_word_embeddings to true in config.json" in refusal(copy)
    edit_json(copy / "config.json", tie_word_embeddings=True)
    base = load_base(Model(str(copy)), CPU)
    assert base.get_output_embeddings().weight is base.get_input_embeddings().weight


@pytest.mark.parametrize("name", ["lm_head.weight", "model.embed_tokens.weight"])
def test_a_tied_matrix_is_in_the_files_once_under_either_name(tied, name):
    embedding = load_file(tied / "model.safetensors")["model.embed_tokens.weight"]
    edit_tensors(tied, lambda tensors: {**without("embed_tokens")(tensors), name: embedding})
    base = load_base(Model(str(tied)), CPU)
    assert torch.equal(base.get_output_embeddings().weight, embedding)


def test_tied_and_in_the_files_under_neither_name(tied):
    edit_tensors(tied, without("embed_tokens"))
    assert "lm_head.weight, model.embed_tokens.weight" in refusal(tied)


def test_tied_and_twice_in_the_files(tied):
    embedding = load_file(tied / "model.safetensors")["model.embed_tokens.weight"]
    edit_tensors(tied, lambda tensors: {**tensors, "lm_head.weight": embedding.clone()})
    load_base(Model(str(tied)), CPU)
    edit_tensors(tied, lambda tensors: {**tensors, "lm_head.weight": 2 * embedding})
    assert "says that its head is its embedding (tie_word_embeddings), and its files" in refusal(
        tied
    )
    edit_json(tied / "config.json", tie_word_embeddings=False)  # the way out that is named
    base = load_base(Model(str(tied)), CPU)
    assert torch.equal(base.get_output_embeddings().weight, 2 * embedding)


def test_names_of_another_architecture(copy):
    edit_tensors(copy, lambda tensors: {f"gpt.{name}": t for name, t in tensors.items()})
    assert "lack 25 of the 25" in refusal(copy)
    assert "hold others, such as gpt.lm_head.weight" in refusal(copy)


def test_a_decoder_saved_without_its_prefix_is_the_same_model(copy, tiny_model):
    edit_tensors(
        copy, lambda tensors: {name.removeprefix("model."): t for name, t in tensors.items()}
    )
    expected = load_base(Model(str(tiny_model)), CPU).state_dict()
    loaded = load_base(Model(str(copy)), CPU).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_another_shape(copy, name):
    edit_tensors(copy, lambda tensors: tensors | {name: tensors[name][:16].clone()})
    assert f"another shape than its config.json asks for: {name} is [16" in refusal(copy)


@pytest.mark.parametrize(("layers", "beyond"), [(3, "lack 11 of the 36"), (1, "no place")])
def test_a_config_with_other_layers_than_the_files(copy, layers, beyond):
    edit_json(
        copy / "config.json", num_hidden_layers=layers, layer_types=["full_attention"] * layers
    )
    message = refusal(copy)
    assert beyond in message
    assert f"config.json says num_hidden_layers: {layers}" in message


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.q_proj.bias", "lm_head.bias", "layers.2.mlp.up_proj.weight"]
)
def test_weights_for_which_the_config_has_no_place(copy, name):
    edit_tensors(copy, lambda tensors: tensors | {name: torch.ones(32)})
    assert f"its config.json has no place: {name}. Without them it is another model" in refusal(
        copy
    )


def test_what_is_not_the_language_models_is_left_out(copy, caplog):
    extra = {"v_head.summary.weight": torch.ones(1, 32)}
    old_buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    edit_tensors(copy, lambda tensors: tensors | extra | old_buffer)
    with caplog.at_level(logging.WARNING):
        load_base(Model(str(copy)), CPU)
    assert "not the language model's, left out: v_head.summary.weight." in caplog.text
    assert "inv_freq" not in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["model.norm.weight", "lm_head.weight"])
def test_not_a_number_is_said_to_be_in_the_base(copy, name, value):
    def spoil(tensors):
        tensors[name].view(-1)[3] = value
        return tensors

    edit_tensors(copy, spoil)
    assert f"The base {copy} itself holds NaN or infinity, in {name}" in refusal(copy)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
def test_quantized_weights_are_refused_with_the_reason(copy, method):
    edit_json(copy / "config.json", quantization_config={"quant_method": method})
    assert f"are quantized ({method}, says its config.json)" in refusal(copy)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantized_weights_whose_config_does_not_say_so(copy, dtype):
    name = "model.layers.0.mlp.up_proj.weight"
    edit_tensors(copy, lambda tensors: tensors | {name: tensors[name].to(dtype)})
    assert f"holds {name} as " in refusal(copy)
    assert "was quantized from" in refusal(copy)


@pytest.fixture
def sharded(tiny_model, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    folder = save(model, tiny_model, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="30KB")
    return folder


def test_several_files_are_one_model(sharded):
    assert len(list(sharded.glob("*.safetensors"))) > 2
    load_base(Model(str(sharded)), CPU)


def test_a_file_that_the_index_names_is_missing(sharded):
    file = min(sharded.glob("*.safetensors"))
    file.unlink()
    assert f"has no {file.name}" in refusal(sharded)


def test_a_tensor_that_the_index_names_is_missing(sharded):
    file = min(sharded.glob("*.safetensors"))
    tensors = load_file(file)
    gone = min(tensors)
    del tensors[gone]
    save_file(tensors, file, metadata={"format": "pt"})
    assert f"lack 1 of the 25 tensors that its config.json asks for: {gone}" in refusal(sharded)


def test_a_file_cut_short_and_a_damaged_index(sharded):
    file, index = min(sharded.glob("*.safetensors")), sharded / "model.safetensors.index.json"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    assert "cannot be loaded: SafetensorError" in refusal(sharded)
    file.write_bytes(whole)
    index.write_text(json.dumps([]))
    assert "model.safetensors.index.json is damaged" in refusal(sharded)


@pytest.mark.parametrize("command_name", ["train", "evaluate"])
def test_commands_end_with_the_code_of_a_model_that_cannot_be_used(
    copy, settings, command, command_name, problems
):
    edit_tensors(copy, without("model.norm"))
    words = {
        "train": ["train", settings, "--model", copy, "--output-dir", "run"],
        "evaluate": [
            *("evaluate", copy, "--benchmarks", problems, "--runs", "1"),
            *("--sampling.max-new-tokens", "8"),
        ],
    }
    code, _, errors = command(*words[command_name])
    assert code == 4
    assert "lack 1 of the 25 tensors that its config.json asks for: model.norm.weight" in errors
