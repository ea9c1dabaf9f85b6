"""A small quickstart in a process of its own, stopped and gone on with to the end."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from purified_opsd.quickstart.arm import ARMS

SMALL = ["--steps", "3", "--questions", "4", "--samples", "2"]


def quickstart(folder, *words):
    command = [
        sys.executable,
        "-m",
        "purified_opsd.cli",
        "quickstart",
        "--output-dir",
        str(folder),
        *(words or SMALL),
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


def children(folder):
    """Ids of the processes that work for a quickstart."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found[int(file.parent.name)] = file.read_bytes().decode(errors="replace").split("\0")
    return [
        id
        for id, words in found.items()
        if str(folder / "pmi") in words or str(folder / "standard") in words
    ]


def wait_until(happened, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert happened()


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A quickstart stopped while it trains, by somebody impatient, then gone on with to the end."""
    folder = tmp_path_factory.mktemp("quick") / "my start"
    first = quickstart(folder)
    wait_until(lambda: all((folder / arm / "config.yaml").exists() for arm in ARMS))
    for _ in range(2):
        first.send_signal(signal.SIGINT)
        time.sleep(0.15)
    said, _ = first.communicate(timeout=180)
    assert children(folder) == []
    assert first.returncode == 130, said
    assert (
        "Stopped by SIGINT; both arms are saved. Go on with: purified-opsd quickstart --output-dir "
        f"'{folder}'" in said
    )
    second = quickstart(folder)
    out, _ = second.communicate(timeout=300)
    assert second.returncode == 0, out
    return folder, out
