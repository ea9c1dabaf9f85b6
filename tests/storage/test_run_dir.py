"""The run directory: whole files, complete lines, and what a run killed early leaves."""

import json

import pytest

from purified_opsd.errors import RunError
from purified_opsd.storage.completions import CompletionRow
from purified_opsd.storage.environment import environment
from purified_opsd.storage.files import locked, write_atomic
from purified_opsd.storage.run_dir import (
    ChangeRow,
    RunReader,
    RunWriter,
    is_step_name,
    refuse_existing,
    step_name,
    step_of,
)


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.begin("steps: 3\n", {"rows": 7})
    return writer


def row(text: str) -> CompletionRow:
    return CompletionRow("p1", "stop", text, [5, 6], seed=7)


def test_what_is_written_is_read(writer):
    for step in (1, 2):
        writer.metrics({"step": step, "loss": 0.5, "text": "é\u2028\n"})
        writer.rollouts(step, [row("a\nb"), row("c")])
    reader = RunReader(writer.folder)
    assert reader.config_file.read_text() == "steps: 3\n"
    assert reader.data() == {"rows": 7}
    assert [row["step"] for row in reader.metrics()] == [1, 2]
    assert reader.metrics()[0]["text"] == "é\u2028\n"
    assert [completion.text for completion in reader.rollouts(2)] == ["a\nb", "c"]


def test_a_number_that_json_does_not_know_is_not_written(writer):
    with pytest.raises(ValueError, match="Out of range float"):
        writer.metrics({"step": 1, "loss": float("nan")})
    assert RunReader(writer.folder).metrics() == []


def test_rewinding_forgets_what_came_after(writer):
    for step in (1, 2, 3):
        writer.metrics({"step": step})
        writer.rollouts(step, [row("a")])
    writer.rewind(1)
    reader = RunReader(writer.folder)
    assert reader.metrics() == [{"step": 1}]
    assert [bool(reader.rollouts(step)) for step in (1, 2, 3)] == [True, False, False]


def test_starts_are_added_up(writer):
    for _ in range(2):
        writer.start(environment("cpu", processes=1))
    starts = json.loads((writer.folder / "environment.json").read_text())
    assert len(starts) == 2
    assert starts[0]["python"].startswith("3.")


def test_changes_are_read_as_they_were_written(writer):
    assert RunReader(writer.folder).changes() == []
    rows = [
        ChangeRow(3, {"optimizer.learning_rate": ("5e-06", "0.001")}),
        ChangeRow(9, {"target.beta": ("1.0", None)}),
    ]
    writer.changes(rows)
    assert RunReader(writer.folder).changes() == rows
    writer.changes([])
    assert not (writer.folder / "changes.json").exists()


@pytest.mark.parametrize(
    "text",
    ["{", "{}5", '{"step": 1}', '[{"step": 1}]', '[{"step": 1, "changed": {"a": 5}}]', "[5]"],
)
def test_damaged_changes_are_said(writer, text):
    (writer.folder / "changes.json").write_text(text)
    with pytest.raises(RunError, match=r"changes\.json is damaged"):
        RunReader(writer.folder).changes()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "x"
    write_atomic(file, "before")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(file, "after \ud800")
    assert file.read_text() == "before"


def test_a_run_killed_while_it_began_can_begin_again(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (".lock", "data.json", ".config.yaml.tmp"):
        (folder / name).touch()
    refuse_existing(folder)
    (folder / "mine.txt").touch()
    with pytest.raises(RunError, match="is not a run directory; nothing in it was touched"):
        refuse_existing(folder)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        RunError, match="cannot be made: .*file is no folder that can be written to"
    ):
        refuse_existing(tmp_path / "file" / "run")


def test_the_lock_is_given_back(tmp_path):
    for _ in range(2):
        with (
            locked(tmp_path / "run"),
            pytest.raises(RunError, match="Another process is writing"),
            locked(tmp_path / "run"),
        ):
            pass


def test_no_run_directory(tmp_path):
    with pytest.raises(RunError, match="is no run directory: it has no config.yaml"):
        RunReader(tmp_path)


@pytest.mark.parametrize(
    ("step", "name"), [(0, "base"), (50, "step-000050"), (10**6, "step-1000000")]
)
def test_a_step_has_one_name(step, name):
    assert (step_name(step), step_of(name)) == (name, step)
    assert is_step_name(name) == (step > 0)


@pytest.mark.parametrize("name", ["step-x", "step-", ".step-000050.tmp", "000050", "other"])
def test_what_is_no_step(name):
    assert not is_step_name(name)
    with pytest.raises(RunError, match=f"`{name}` is neither `base` nor a checkpoint"):
        step_of(name)
