"""Versions of an adapter on their way to vLLM."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from purified_opsd.errors import ModelError
from purified_opsd.sampling import weight_sync
from purified_opsd.sampling.weight_sync import AdapterPublisher

from ..policy.conftest import build, with_adapter


def test_a_version_is_the_adapter_and_named_after_it(qwen, tmp_path):
    publisher = AdapterPublisher(tmp_path, qwen)
    first = publisher.publish(qwen)
    assert publisher.publish(qwen) == first
    assert AdapterPublisher(tmp_path, qwen).publish(qwen).name == first.name
    again = PeftModel.from_pretrained(build("qwen3"), str(first.folder))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, qwen(input_ids=ids).logits)
    next(p for name, p in qwen.named_parameters() if "lora_B" in name).data[0, 0] += 1e-6
    second = publisher.publish(qwen)
    assert second.name != first.name
    assert not first.folder.exists()
    assert [file.name for file in second.folder.parent.iterdir() if file.is_dir()] == [second.name]
    assert load_file(second.folder / "adapter_model.safetensors")


def test_the_folder_goes_with_its_owner_and_so_does_that_of_one_who_was_killed(qwen, tmp_path):
    died = tmp_path / f"{weight_sync.PREFIX}dead"
    died.mkdir()
    (died / ".lock").touch()
    os.utime(died, (0, 0))
    publisher = AdapterPublisher(tmp_path, qwen)
    folder = publisher.publish(qwen).folder.parent
    assert not died.exists()
    code = (
        "from pathlib import Path\n"
        "from purified_opsd.sampling.weight_sync import _remove_abandoned\n"
        f"_remove_abandoned(Path({str(tmp_path)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert folder.exists()  # another process leaves a living one's alone
    del publisher
    assert not folder.exists()


def test_the_first_place_with_room_is_taken(monkeypatch, tmp_path):
    model = with_adapter(build("qwen3"))
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(weight_sync, "DEFAULT_DIRECTORIES", (tmp_path / "gone", small, large))
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda folder: usage._replace(free=100) if Path(folder) == small else usage,
    )
    assert AdapterPublisher(None, model).folder.parent == large
    assert AdapterPublisher(tmp_path / "large" / "new", model).folder.parent == large / "new"
    with pytest.raises(
        ModelError,
        match=r"no room for 3 versions of the adapter \(0 MB each\) in .*small.*"
        "--sampler.directory",
    ):
        AdapterPublisher(small, model)


def test_a_young_folder_may_be_about_to_be_locked(qwen, tmp_path):
    born = tmp_path / f"{weight_sync.PREFIX}born"
    born.mkdir()
    (born / ".lock").touch()
    AdapterPublisher(tmp_path, qwen)
    assert born.exists()


def test_a_directory_is_where_it_is_for_servers_too(qwen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    version = AdapterPublisher(Path("adapters"), qwen).publish(qwen)
    assert version.folder.parent.parent == tmp_path / "adapters"
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="sampler.directory cannot be made: .*file.*Name a folder"):
        AdapterPublisher(Path("file"), qwen)


def test_an_adapter_that_cannot_be_written_is_an_error_of_ours(qwen, tmp_path):
    publisher = AdapterPublisher(tmp_path, qwen)
    shutil.rmtree(publisher.folder)
    publisher.folder.touch()
    with pytest.raises(
        ModelError, match=f"cannot be written for the sampler: .*Make room in {tmp_path}"
    ):
        publisher.publish(qwen)
