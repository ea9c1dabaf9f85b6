"""Real servers, started by `purified-opsd serve`: runs sample from them, lose them, find others,
and are told what is wrong.
"""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from purified_opsd import miniature
from purified_opsd.storage.completions import read_completions
from purified_opsd.storage.files import count_lines
from purified_opsd.storage.run_dir import RunReader

from .conftest import SETTINGS, Served, command


def sampling_from(*servers):
    return ("--sampler.kind", "vllm-server", "--sampler.urls", *(server.url for server in servers))


def test_a_run_samples_from_servers_and_is_resumed(servers, folder):
    done = command(
        "train",
        "miniature.pmi",
        *SETTINGS,
        *sampling_from(*servers),
        "--output-dir",
        folder,
        "--steps",
        3,
    )
    assert done.returncode == 0, done.stderr
    done = command("resume", folder, "--steps", 5)
    assert done.returncode == 0, done.stderr
    rows = RunReader(folder).metrics()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert max(row["log_prob_gap_p99"] for row in rows) < 1e-4
    assert all(
        len(server.names()) == 3 for server in servers
    )  # the base, and the last adapter of each start


def test_a_server_that_is_killed_ends_a_run_saved_and_another_goes_on_with_it(folder):
    first = Served()
    try:
        first.wait()
        words = [
            "train",
            "miniature.pmi",
            *SETTINGS,
            *sampling_from(first),
            "--sampler.max-attempts",
            "2",
        ]
        line = [
            sys.executable,
            "-m",
            "purified_opsd.cli",
            *words,
            "--output-dir",
            str(folder),
            "--steps",
            "200",
        ]
        run = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while count_lines(folder / "metrics.jsonl") < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        first.kill()
        _, errors = run.communicate(timeout=60)
    finally:
        first.kill()
    assert run.returncode == 75, errors
    taken = count_lines(folder / "metrics.jsonl")
    assert taken >= 3
    assert (
        f"Stopped after step {taken}, which is saved. A completion was asked for 2 times" in errors
    )
    assert f"Go on with: purified-opsd resume {folder}" in errors

    second = Served(port=first.port)
    try:
        second.wait()
        done = command("resume", folder, "--steps", taken + 2)
        assert done.returncode == 0, done.stderr
        rows = RunReader(folder).metrics()
        assert [row["step"] for row in rows] == list(range(1, taken + 3))
        assert max(row["log_prob_gap_p99"] for row in rows) < 1e-4
        assert second.stop(signal.SIGTERM) in (0, 143, -signal.SIGTERM)
        deadline = (
            time.monotonic() + 30
        )  # vLLM's engine ends a moment after the server that started it
        while left := subprocess.run(
            ["pgrep", "-g", str(second.process.pid)], capture_output=True, text=True, check=False
        ).stdout:
            assert time.monotonic() < deadline, left
            time.sleep(0.2)
    finally:
        second.kill()


def another_base(tmp_path):
    """The miniature's shape and tokenizer, with other weights."""
    model = AutoModelForCausalLM.from_pretrained(miniature.BASE, dtype="float32")
    for parameter in model.parameters():
        parameter.data = parameter.data.roll(1, 0)
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(miniature.BASE).save_pretrained(tmp_path / "other")
    return tmp_path / "other"


WRONG = {
    "wrong key": (4, [], {"VLLM_API_KEY": "another"}, "does not take the key"),
    "rank": (
        4,
        ["--adapter.rank", "64"],
        {},
        "LoRA rank 64 is greater than max_lora_rank 32.* --max-lora-rank",
    ),
    "not a server of ours": (
        4,
        ["--sampler.urls", "URL/v1"],
        {},
        "is no vLLM server: .*nothing behind the port",
    ),
    "nobody there": (
        75,
        ["--sampler.urls", "http://127.0.0.1:9"],
        {},
        "http://127.0.0.1:9 does not answer",
    ),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_wrong_is_said_and_nothing_is_written(servers, folder, name):
    code, words, environment, message = WRONG[name]
    words = [word.replace("URL", servers[0].url) for word in words]
    start = ("train", "miniature.pmi", *SETTINGS, "--output-dir", folder, "--steps", 1)
    done = command(*start, *sampling_from(servers[0]), *words, **environment)
    assert done.returncode == code, done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not folder.exists()


def test_another_base_and_a_server_that_is_too_short(servers, folder, tmp_path):
    start = (
        "train",
        "miniature.pmi",
        *SETTINGS,
        "--output-dir",
        folder,
        "--steps",
        1,
        *sampling_from(servers[0]),
    )
    done = command(*start, "--model", another_base(tmp_path), "--model.dtype", "float32")
    assert done.returncode == 4, done.stderr
    assert (
        f"{servers[0].url} serves another base model, or this one in another dtype" in done.stderr
    )
    short = Served(("--prompts.max-tokens", "100"))
    try:
        short.wait()
        done = command(*start[:-1], short.url)
    finally:
        short.kill()
    assert done.returncode == 4, done.stderr
    assert re.search(
        "takes 292 tokens at most, and a prompt and its completion may have 512 here", done.stderr
    ), done.stderr
    assert not folder.exists()


def samples(folder):
    """The rows of every candidate, in the order of their runs and questions."""
    files = sorted((folder / "countdown").glob("*/samples.jsonl"))
    return {
        file.parent.name: sorted(
            read_completions(file, "run"), key=lambda row: (row.extras["run"], row.id)
        )
        for file in files
    }


def test_an_evaluation_is_the_same_by_one_server_and_by_two_however_often_it_is_stopped(
    servers, folder, tmp_path
):
    done = command(
        "train",
        "miniature.pmi",
        *SETTINGS,
        "--output-dir",
        folder,
        "--steps",
        2,
        "--checkpoint-every",
        1,
    )
    assert done.returncode == 0, done.stderr
    words = [
        "evaluate",
        folder,
        "--benchmarks",
        "countdown",
        "--limit",
        24,
        "--runs",
        2,
        "--sampling.max-new-tokens",
        60,
        "--sampling.batch-size",
        12,
    ]
    by_one = command(*words, "--output-dir", tmp_path / "one", "--server", servers[0].url)
    assert by_one.returncode == 0, by_one.stderr

    two = [
        *map(str, words),
        "--output-dir",
        str(tmp_path / "two"),
        "--server",
        *(server.url for server in servers),
    ]
    stopped = subprocess.Popen(
        [sys.executable, "-m", "purified_opsd.cli", *two], stderr=subprocess.DEVNULL, env=os.environ
    )
    first = tmp_path / "two/countdown/base/samples.jsonl"
    deadline = time.monotonic() + 120
    while count_lines(first) < 12 and time.monotonic() < deadline:
        time.sleep(0.05)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=60) == 143
    assert 12 <= sum(map(len, samples(tmp_path / "two").values())) < 144
    assert command(*two).returncode == 0

    one, other = samples(tmp_path / "one"), samples(tmp_path / "two")
    assert list(one) == ["base", "step-000001", "step-000002"]
    assert one == other
    assert len({row.text for rows in one.values() for row in rows}) > 60
    table = (tmp_path / "one/table.md").read_text()
    assert (tmp_path / "two/table.md").read_text() == table
    assert "PARTIAL" not in table

    mixed = command(*words, "--output-dir", tmp_path / "one")
    assert mixed.returncode == 2
    assert "holds samples drawn with engine = vllm, and transformers is asked for" in mixed.stderr
