"""A model that is not where it is said to be: what is said, and how soon."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from purified_opsd.errors import ModelError
from purified_opsd.policy.loading import context_length, load_tokenizer
from purified_opsd.policy.model import Model


def refusal(path) -> str:
    with pytest.raises(ModelError) as caught:
        load_tokenizer(Model(str(path)))
    return str(caught.value)


@pytest.mark.parametrize("form", ["{here}/qwen4", "./qwen4", "../{name}/qwen4", "a/b/qwen4", "a b"])
def test_a_folder_that_does_not_exist(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    path = form.format(here=tmp_path, name=tmp_path.name)
    message = refusal(path)
    assert message.startswith(f"There is no model folder at {path} (looked for {os.sep}")
    assert "repo id" not in message


def test_folders_of_a_like_name_are_named(tmp_path, tiny_model):
    shutil.copytree(tiny_model, tmp_path / "qwen3-small")
    assert f"Near it: {tmp_path / 'qwen3-small'}." in refusal(tmp_path / "qwen3-smal")
    assert "Near it" not in refusal(tmp_path / "llama")


def test_a_hub_id_may_be_a_mistyped_folder(tmp_path, tiny_model, monkeypatch):
    shutil.copytree(tiny_model, tmp_path / "models" / "qwen3")
    monkeypatch.chdir(tmp_path)
    assert f"It is no folder here. Near it: models{os.sep}qwen3." in refusal("models/qwen4")


def test_a_file(tiny_model):
    assert "config.json is a file, and a model is a folder" in refusal(tiny_model / "config.json")


def test_an_adapter_is_not_a_model(tiny_model, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (adapter / "adapter_model.safetensors").touch()
    assert f"evaluate MODEL --adapter {adapter}" in refusal(adapter)
    both = shutil.copytree(tiny_model, tmp_path / "both")
    shutil.copy(adapter / "adapter_config.json", both)
    assert "holds a LoRA adapter (adapter_config.json), not a model" in refusal(both)


def hub_cache(tiny_model, folder):
    """A cache as the hub's library leaves it, with the tiny model as org/tiny."""
    snapshot = folder / "models--org--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(tiny_model, snapshot)
    refs = folder / "models--org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    return folder


def without_network(program: str, cache, seconds: float) -> subprocess.CompletedProcess:
    """Runs a program for which the hub is at an address where nobody listens."""
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(cache)}
    del environment["HF_HUB_OFFLINE"]
    return subprocess.run(
        [sys.executable, *program.split(" ")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_without_a_network_a_hub_id_fails_at_once_in_one_paragraph(tmp_path, problems):
    done = without_network(
        f"-m purified_opsd.cli evaluate nobody/nothing --benchmarks {problems}", tmp_path, 40
    )
    assert done.returncode == 4
    assert "nobody/nothing cannot be loaded: ConnectionError: It is not in the cache" in done.stderr
    assert "the hub cannot be reached (ConnectError" in done.stderr
    assert "Retrying" not in done.stderr
    assert len(done.stderr.splitlines()) < 4


def test_without_a_network_a_model_in_the_cache_is_loaded(tmp_path, tiny_model):
    cache = hub_cache(tiny_model, tmp_path / "cache")
    program = tmp_path / "load.py"
    program.write_text(
        "import torch\n"
        "from purified_opsd.policy.loading import load_policy, load_tokenizer\n"
        "from purified_opsd.policy.model import LoRA, Model\n"
        "model = Model('org/tiny')\n"
        "load_policy(model, LoRA(4, 8), load_tokenizer(model), 0, torch.device('cpu'))\n"
    )
    done = without_network(str(program), cache, 60)
    assert (done.returncode, "Retrying" in done.stderr) == (0, False), done.stderr


def test_a_name_that_offline_mode_cannot_find():
    assert "It is not in the cache, and HF_HUB_OFFLINE is set" in refusal("nobody/nothing")
    with pytest.raises(ModelError, match="The configuration of nobody/nothing cannot be loaded"):
        context_length(Model("nobody/nothing"))
