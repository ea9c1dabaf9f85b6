"""The command that starts a sampling server, as it is printed.  It is run in tests/vllm."""

import shlex
import socket
import sys

import pytest

from purified_opsd.errors import ModelError
from purified_opsd.sampling.vllm_engine import lora_rank
from purified_opsd.sampling.vllm_serve import refuse_unable, server_environment


def test_what_would_be_run_is_printed(command, settings, tiny_model):
    code, output, errors = command(
        "serve", settings, "--port", "8123", "--dry-run", "--vllm", "--tensor-parallel-size 2"
    )
    assert code == 0, errors
    line, key, hint = output.splitlines()
    words = shlex.split(line)
    assert words[:4] == [
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1",
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
    ]
    flags = dict(zip(words[4:-3:2], words[5:-3:2], strict=True))
    assert flags == {
        "--model": str(tiny_model),
        "--host": "127.0.0.1",
        "--port": "8123",
        "--dtype": "float32",
        "--max-model-len": "1024",  # the model's; the recipe would allow 20,000 and 8
        "--max-num-seqs": "32",
        "--max-lora-rank": "8",  # the least that vLLM knows above the adapter's 4
        "--logprobs-mode": "raw_logprobs",
        "--generation-config": "vllm",
    }
    assert words[-3:] == ["--enable-lora", "--tensor-parallel-size", "2"]
    assert key.startswith("Its key, for those who train: export VLLM_API_KEY=")
    assert key.rpartition("=")[2] not in line
    assert hint == "Train with: --sampler.kind vllm-server --sampler.urls http://127.0.0.1:8123"


def test_a_key_that_is_there_is_kept_and_none_is_used_where_it_is_so_wished():
    made = server_environment({"HOME": "/h"}, open_to_all=False)
    assert made["HOME"] == "/h"
    assert len(made["VLLM_API_KEY"]) >= 32
    assert made["VLLM_API_KEY"] != server_environment({}, open_to_all=False)["VLLM_API_KEY"]
    assert server_environment({"VLLM_API_KEY": "k"}, open_to_all=False)["VLLM_API_KEY"] == "k"
    assert server_environment({"VLLM_API_KEY": "k"}, open_to_all=True) == {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"
    }


def test_a_port_that_is_taken_is_said_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr("purified_opsd.sampling.vllm_serve.find_spec", lambda name: True)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(
            ModelError, match="cannot listen on 127.0.0.1, port .*in use.* Give another --port"
        ):
            refuse_unable("127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize(("rank", "taken"), [(1, 1), (2, 8), (64, 64), (65, 128), (512, 512)])
def test_ranks_that_vllm_takes(rank, taken):
    assert lora_rank(rank) == taken
    with pytest.raises(ModelError, match="up to rank 512, and adapter.rank is 513"):
        lora_rank(513)
