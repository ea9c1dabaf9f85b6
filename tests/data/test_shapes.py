"""Chat rows and GSM8K's: what has one reading is read and told, everything else is refused."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from purified_opsd.data.dataset import AnswerOnly, Columns, TrainingSet, load_examples
from purified_opsd.errors import DataError

from .test_dataset import write

NULL = ("--benchmarks", "null")


def turns(*pairs, role="role", content="content"):
    return [{role: who, content: text} for who, text in pairs]


CHAT = turns(("user", "q"), ("assistant", "s"))
SHARE_GPT = turns(("human", "q"), ("gpt", "s"), role="from", content="value")
PARTS = turns(
    ("user", [{"type": "text", "text": "q"}]), ("assistant", [{"type": "text", "text": "s"}])
)
SHAPES = {
    "messages": {"messages": CHAT},
    "messages with an empty system turn": {"messages": [{"role": "system", "content": ""}, *CHAT]},
    "messages of parts": {"messages": PARTS},
    "conversations of ShareGPT": {"conversations": SHARE_GPT},
    "conversations in OpenAI's words": {"conversations": CHAT},
    "a prompt and its completion": {"prompt": "q", "completion": "s"},
    "turns of both": {"prompt": CHAT[:1], "completion": CHAT[1:]},
}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", list(SHAPES))
def test_a_shape_with_one_reading_is_read(tmp_path, name, suffix):
    rows = [{**SHAPES[name], "answer": 5.0, "id": f"i{i}", "source": "x"} for i in range(2)]
    file = write(tmp_path / f"x{suffix}", rows)
    examples = load_examples(TrainingSet(file, where={"source": "x"}))
    read = [(e.id, e.problem, e.reference, e.answer) for e in examples.rows]
    assert read == [("i0", "q", "s", "5"), ("i1", "q", "s", "5")]
    (shape,) = examples.shapes
    assert examples.shapes[shape] == 2
    assert shape.startswith(tuple(SHAPES[name]))


def test_gsm8k_holds_the_solution_in_its_answer(tmp_path):
    rows = [{"question": "q", "answer": "48 / 2 = <<48/2=24>>24\n#### 1,024"}]
    file = write(tmp_path / "x.jsonl", rows)
    (example,) = load_examples(TrainingSet(file)).rows
    assert (example.problem, example.reference) == ("q", rows[0]["answer"])
    assert example.answer == "1,024"
    (example,) = load_examples(TrainingSet(file, reference=AnswerOnly())).rows
    assert example.reference == "The final answer is \\boxed{1,024}."


def test_columns_of_ones_own_go_before_a_shape(tmp_path):
    row = {"messages": CHAT, "problem": "mine", "solution": "own", "prompt": "p", "text": "t"}
    file = write(tmp_path / "x.jsonl", [row])
    examples = load_examples(TrainingSet(file))
    assert (examples.rows[0].problem, dict(examples.shapes)) == ("mine", {})
    examples = load_examples(TrainingSet(file, columns=Columns("prompt", "text")))
    assert (examples.rows[0].problem, dict(examples.shapes)) == ("p", {})


def test_a_solution_in_the_column_named_answer_is_no_answer(tmp_path):
    file = write(tmp_path / "x.jsonl", [{"question": "q", "answer": "a long solution"}])
    (example,) = load_examples(TrainingSet(file, columns=Columns("question", "answer"))).rows
    assert (example.reference, example.answer) == ("a long solution", None)
    columns = Columns("question", "answer", answer="answer")
    assert load_examples(TrainingSet(file, columns=columns)).rows[0].answer == "a long solution"


REFUSED = {
    "a system turn": (
        {"messages": [{"role": "system", "content": "Be brief."}, *CHAT]},
        "the turns of its column 'messages' hold a system turn, which no prompt would show",
    ),
    "several questions": (
        {"messages": [*CHAT, *CHAT]},
        "'messages' are user, assistant, user, assistant; a row is one question",
    ),
    "no solution": ({"conversations": SHARE_GPT[:1]}, "'conversations' are human; a row is one"),
    "the wrong order": ({"messages": CHAT[::-1]}, "'messages' are assistant, user; a row is one"),
    "a tool": ({"messages": [*CHAT, {"role": "tool", "content": "x"}]}, "user, assistant, tool"),
    "thoughts of their own": (
        {"messages": [CHAT[0], {**CHAT[1], "reasoning_content": "hm"}]},
        "'messages' hold 'reasoning_content', which would be left out",
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image"}]}, CHAT[1]]},
        "'messages' hold parts that are not text",
    ),
    "turns in other words": (
        {"messages": [{"speaker": "user", "says": "q"}]},
        "have neither 'role' and 'content' nor 'from' and 'value'",
    ),
    "null for a turn's text": (
        {"messages": turns(("user", "q"), ("assistant", None))},
        r"its column 'solution' \(solution\) is null, not text",
    ),
    "half a character": (
        {"messages": turns(("user", "\ud83d"), ("assistant", "s"))},
        r"its column 'problem' \(problem\) holds half a character",
    ),
    "an empty list": ({"messages": []}, "it has no column 'problem' for the problem"),
    "two shapes": ({"messages": CHAT, "prompt": "q", "completion": "s"}, "no column 'problem'"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_has_no_one_reading_is_refused(tmp_path, name):
    bad, message = REFUSED[name]
    file = write(tmp_path / "x.jsonl", [{"messages": CHAT}, bad])
    with pytest.raises(DataError, match=f"1 of 2 rows of .*\n.*x.jsonl:2: .*{message}"):
        load_examples(TrainingSet(file))
    assert load_examples(TrainingSet(file, on_bad_row="skip")).skipped == 1


def test_a_system_turn_in_every_row_is_said_once(tmp_path):
    row = {"messages": [{"role": "system", "content": "Be brief."}, *CHAT]}
    file = write(tmp_path / "x.jsonl", [row] * 9)
    with pytest.raises(DataError, match="9 of 9 rows") as caught:
        load_examples(TrainingSet(file))
    assert str(caught.value).count("system turn") == 1
    assert "The same in 8 more rows." in str(caught.value)


def test_commands_say_how_the_rows_were_read(command, settings, tmp_path):
    write(tmp_path / "x.jsonl", [{"messages": CHAT, "id": str(i)} for i in range(3)])
    shape = "messages (the user's turn is the problem, the assistant's the solution)"
    code, output, errors = command("train", settings, "--data", "x.jsonl", "--steps", "1")
    assert (code, f"3 rows were read by their shape: {shape}." in output + errors) == (0, True)
    record = json.loads((tmp_path / "runs/my_run/data.json").read_text())
    assert record["shapes"] == {shape: 3}
    code, output, _ = command("prepare", "x.jsonl", "--output", "y.parquet", *NULL)
    assert (code, f"3 read by their shape: {shape}" in output) == (0, True)
    assert json.loads((tmp_path / "y.manifest.json").read_text())["shapes"] == {shape: 3}
    rows = pyarrow.parquet.read_table(tmp_path / "y.parquet").to_pylist()
    assert [(row["problem"], row["solution"]) for row in rows] == [("q", "s")] * 3
