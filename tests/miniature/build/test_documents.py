"""What the base learns from: checks tell the truth, retries and checks are what it takes, slips
depend on nothing shown.
"""

import random
import re

import pytest

from purified_opsd.miniature.build.documents import CONFIDENT, SEARCHING, Habits, document, trace
from purified_opsd.miniature.build.reflection import Reflection, reflect
from purified_opsd.miniature.build.tokenizer import LARGEST_SPELLED
from purified_opsd.miniature.task import Problem, Split, grade, parse, problems, solutions

RESULT = re.compile(r"(\d+) ([-+×]) (\d+) = (\d+)\.(?: (?:Wait|Hmm|Actually), check: (\d+)\.)?")
PROBLEM = Problem((3, 7, 12), 33)
GOAL = solutions(PROBLEM)[0]
BARE = Habits(hit=1, give_up=0, turn=0, guess=0, slip=0, check=0)


def questions(documents):
    return [d for d in documents if d.prompt.startswith("Use") and "Reference" not in d.prompt]


def shown_a_reference(documents):
    return [d for d in documents if "Reference" in d.prompt]


def true_value(result):
    left, operator, right = int(result[1]), result[2], int(result[3])
    return {"+": left + right, "-": left - right, "×": left * right}[operator]


def results(documents):
    return [result for d in documents for result in RESULT.finditer(d.completion)]


def right(documents):
    return [grade(d.prompt, d.completion) for d in documents]


def share(flags):
    return sum(flags) / len(flags)


def traces(habits, count=400):
    return [trace(PROBLEM, GOAL, habits, random.Random(seed)) for seed in range(count)]


def test_a_document_is_a_function_of_seed_and_index(documents):
    assert [document(0, index) for index in range(20)] == documents[:20]
    assert [document(1, index) for index in range(20)] != documents[:20]


def test_only_questions_of_the_base_split_are_used(documents):
    asked = [parse(d.prompt) for d in documents if d.prompt.startswith("Use")]
    assert {problem.split for problem in asked} == {Split.BASE}


def test_every_check_tells_the_truth(documents):
    checked = [result for result in results(documents) if result[5]]
    assert len(checked) > 1000
    assert all(int(result[5]) == true_value(result) for result in checked)


def test_a_trace_goes_on_with_what_the_check_found_and_else_with_what_was_written():
    slippery = Habits(hit=1, give_up=0, turn=0, guess=0, slip=0.5, check=0.5)
    for text in traces(slippery):
        for attempt in re.findall(r"[Tt]ry (.*?)(?:Not|So)", text):
            first, second = RESULT.finditer(attempt)
            assert int(first[5] or first[4]) in (int(second[1]), int(second[3]))


def test_a_slip_is_off_by_a_little(documents):
    errors = [int(result[4]) - true_value(result) for result in results(questions(documents))]
    assert {abs(error) for error in errors} == {0, 1, 2, 10}
    assert share([error != 0 for error in errors]) == pytest.approx(SEARCHING.slip, abs=0.02)


def test_slips_depend_neither_on_the_context_nor_on_how_near_the_result_is_to_the_target(documents):
    """PMI amplifies what depends on the question, so a slip that did would be what it amplifies."""
    near, far = [], []
    for d in questions(documents):
        for result in RESULT.finditer(d.completion):
            close = abs(true_value(result) - parse(d.prompt).target) <= 10
            (near if close else far).append(true_value(result) != int(result[4]))
    searching, deriving = (
        [true_value(result) != int(result[4]) for result in results(those(documents))]
        for those in (questions, shown_a_reference)
    )
    assert SEARCHING.slip == CONFIDENT.slip
    for one, other in ((near, far), (searching, deriving)):
        assert min(len(one), len(other)) > 300
        error = sum(share(group) * (1 - share(group)) / len(group) for group in (one, other)) ** 0.5
        assert abs(share(one) - share(other)) < 4 * error


@pytest.mark.parametrize(("lost", "cost"), [({"check": 0}, 0.03), ({"give_up": 1}, 0.4)])
def test_losing_reflection_costs_right_answers(lost, cost):
    """Checks, and patience to try again."""
    whole, without = (
        share(
            [
                grade(PROBLEM.text, text)
                for text in traces(Habits(**(vars(SEARCHING) | change)), 2000)
            ]
        )
        for change in ({}, lost)
    )
    assert whole - without > cost


def test_who_was_shown_the_reference_is_short_sure_and_mostly_right(documents):
    searching, deriving = questions(documents), shown_a_reference(documents)
    length = [sum(len(d.completion) for d in those) / len(those) for those in (searching, deriving)]
    doubt = [
        sum(reflect(d.completion).markers for d in those) / sum(len(d.completion) for d in those)
        for those in (searching, deriving)
    ]
    assert length[0] > 1.7 * length[1]
    assert doubt[0] > 3 * doubt[1]
    with_question = [d for d in deriving if d.prompt.startswith("Use")]
    assert share(right(with_question)) > share(right(searching)) + 0.04


def test_references_are_full_or_the_bare_answer(documents):
    shown = [
        d.prompt.split("Begin ===\n")[1].split("\n===")[0] for d in shown_a_reference(documents)
    ]
    assert 0.48 < share(["\\boxed" in text for text in shown]) < 0.72


def test_no_attempt_that_misses_is_made_twice():
    for text in traces(Habits(hit=0.1, give_up=0, turn=0, guess=0, slip=0, check=0), 60):
        wrong = re.findall(r"[Tt]ry (\d+ [-+×] \d+ = \d+\. \d+ [-+×] \d+) = \d+\. Not", text)
        assert len(wrong) == len(set(wrong))


def test_a_trace_without_habits_is_the_bare_derivation():
    assert (
        trace(PROBLEM, GOAL, BARE, random.Random(0))
        == "Try 7 × 3 = 21. 21 + 12 = 33. So \\boxed{(7 × 3) + 12}"
    )


def test_who_gives_up_boxes_the_last_attempt():
    impatient = Habits(hit=0, give_up=1, turn=0, guess=0, slip=0, check=0)
    for text in traces(impatient, 20):
        attempt, boxed = re.fullmatch(r"Try (.*) Not 33\. So \\boxed{(.*)}", text).groups()
        assert sorted(re.findall(r"\d+", boxed)) == ["12", "3", "7"]
        assert not grade(PROBLEM.text, text)
        assert attempt.count("=") == 2


def test_reflection_is_counted_as_a_reader_would():
    text = (
        "Try 7 × 3 = 22. Wait, check: 21. 21 + 12 = 34. Hmm, maybe 12 + 7 = 19. Actually, check: "
        "19. 19 + 3 = 21. Hmm, check: 23. So \\boxed{(7 × 3) + 12}"
    )
    assert reflect(text) == Reflection(markers=8, checks=3, catches=1, slips=3)


def test_reflections_add_up():
    assert Reflection(1, 2, 3, 4) + Reflection(10, 20, 30, 40) == Reflection(11, 22, 33, 44)


def test_no_result_is_beyond_what_the_vocabulary_spells():
    assert max(problem.target for problem in problems(Split.BASE)) == 99 <= LARGEST_SPELLED
