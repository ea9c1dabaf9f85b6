"""GPQA-Diamond: options in an order of their own for each row, answered by a letter."""

import json
import re
from collections import Counter

import pytest

from purified_opsd.errors import DataError
from purified_opsd.evaluation.benchmarks import load_benchmark, reload_benchmark
from purified_opsd.evaluation.grading.letter_grader import LetterGrader


def gpqa_rows(count=198):
    return [
        {
            "Record ID": f"rec{i:03}",
            "Question": f"Which is {i}?\n",
            "Correct Answer": f"right {i}\n",
            "Incorrect Answer 1": f"wrong {i}",
            "Incorrect Answer 2": f"worse {i}",
            "Incorrect Answer 3": f"worst {i}",
            "Subdomain": "not asked",
        }
        for i in range(count)
    ]


def load(tmp_path, rows):
    file = tmp_path / "gpqa.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_benchmark(f"gpqa-diamond={file}")


def test_a_question_holds_its_options_and_the_gold_answer_is_a_letter(tmp_path):
    benchmark = load(tmp_path, gpqa_rows())
    assert (benchmark.name, len(benchmark.questions)) == ("gpqa-diamond", 198)
    question = benchmark.questions[7]
    assert question.id == "rec007"
    head, *options, last = re.split(r"\n+", question.problem)
    assert head == "Which is 7?"
    assert [option[:4] for option in options] == ["(A) ", "(B) ", "(C) ", "(D) "]
    assert {option[4:] for option in options} == {"right 7", "wrong 7", "worse 7", "worst 7"}
    assert last == "The final answer is a letter: A, B, C or D."
    assert f"({question.answer}) right 7" in options
    assert benchmark.grader("", question.answer, f"\\boxed{{{question.answer}}}").correct
    assert reload_benchmark(benchmark.record) == benchmark


def test_the_order_is_the_rows_own_and_no_letter_is_favoured(tmp_path):
    rows = gpqa_rows()
    before = {q.id: (q.problem, q.answer) for q in load(tmp_path, rows).questions}
    after = {q.id: (q.problem, q.answer) for q in load(tmp_path, rows[::-1]).questions}
    assert before == after
    letters = Counter(answer for _, answer in before.values())
    assert set(letters) == set("ABCD")
    assert all(30 <= count <= 70 for count in letters.values()), letters
    orders = {re.sub(r"[0-9]", "", problem) for problem, _ in before.values()}
    assert len(orders) == 24  # every order of four


def test_a_set_of_another_size_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"gpqa-diamond has 198 questions, but .* has 197 rows"):
        load(tmp_path, gpqa_rows(197))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("Record ID", None, r"gpqa.jsonl:3: its column 'Record ID' is None, not text"),
        ("Correct Answer", "  ", r"gpqa.jsonl:3: its column 'Correct Answer' is empty"),
        ("Incorrect Answer 2", ["x"], r"gpqa.jsonl:3: its column 'Incorrect Answer 2' is \['x'\]"),
        ("Question", ..., r"gpqa.jsonl:3: it has no column 'Question'; it has Record ID, .*"),
    ],
)
def test_a_bad_row_is_named(tmp_path, column, value, message):
    rows = gpqa_rows()
    if value is ...:
        del rows[2][column]
    else:
        rows[2][column] = value
    with pytest.raises(DataError, match=message):
        load(tmp_path, rows)


def test_math500_is_read_with_its_columns(tmp_path):
    rows = [
        {"unique_id": f"test/algebra/{i}.json", "problem": f"{i}?", "answer": f"\\frac{{{i}}}{{7}}"}
        for i in range(500)
    ]
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = load_benchmark(f"math500={file}")
    assert (benchmark.name, benchmark.questions[3].id) == ("math500", "test/algebra/3.json")
    assert (benchmark.record["path"], benchmark.record["split"]) == (str(file), "test")
    assert benchmark.grader("", benchmark.questions[3].answer, "\\boxed{3/7}").correct
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    with pytest.raises(DataError, match=r"math500 has 500 questions, but .* has 499 rows"):
        load_benchmark(f"math500={file}")


LETTERS = [
    ("B", "correct"),
    ("b", "correct"),
    (" B ", "correct"),
    ("(B)", "correct"),
    ("[B]", "correct"),
    ("B.", "correct"),
    ("B)", "correct"),
    ("(B).", "correct"),
    ("\\text{B}", "correct"),
    ("\\text{(B)}", "correct"),
    ("\\mathbf{B}", "correct"),
    ("\\textbf{(B)}", "correct"),
    ("{\\Large B}", "correct"),
    ("\\textcolor{red}{B}", "correct"),
    ("$B$", "correct"),
    ("**B**", "correct"),
    ("B\u200b", "correct"),
    ("Option B", "correct"),
    ("\\text{Option (B)}", "correct"),
    ("\\text{The answer is B}", "correct"),
    ("Answer: B", "correct"),
    ("(B) 5 eV", "correct"),
    ("\\text{(B) a lens}", "correct"),
    ("B: a lens", "correct"),
    ("\\text{B) }10^{-3}", "correct"),
    ("A", "incorrect"),
    ("(C)", "incorrect"),
    ("E", "incorrect"),
    ("\\text{D. B is wrong}", "incorrect"),
    ("(A) a lens", "incorrect"),
    ("a lens", "ungraded: no letter"),
    ("A lens", "ungraded: no letter"),
    ("\\text{B and C}", "ungraded: no letter"),
    ("B, C", "ungraded: no letter"),
    ("10^{-3}", "ungraded: no letter"),
    ("5", "ungraded: no letter"),
    ("?", "ungraded: no letter"),
]


@pytest.mark.parametrize(("answer", "verdict"), LETTERS)
def test_letters(answer, verdict):
    grade = LetterGrader()("", "B", f"So it is \\boxed{{{answer}}}.")
    assert f"{grade.verdict}: {grade.reason}".removesuffix(": ") == verdict
    assert grade.answer == answer.strip()


def test_a_letter_stands_in_a_box():
    grader = LetterGrader()
    assert grader("", "B", "The answer is B.").reason == "no box"
    assert grader("", "B", "so \\boxed{B").reason == "cut off"
    assert grader("", "B", f"\\boxed{{{'B' * 10**5}}}").reason == "too long"
    assert grader("", "B", "\\boxed{B}, as asked in \\boxed{}").correct
    assert grader("", "B", "\\boxed{A}, no: \\boxed{B}").correct
