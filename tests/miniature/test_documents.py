"""What the base learns from: every check tells the truth, every trace ends in a right answer, slips depend on nothing shown."""

import random
import re

from purified_opsd.miniature.documents import CONFIDENT, SEARCHING, Habits, document, trace
from purified_opsd.miniature.reflection import Reflection, reflect
from purified_opsd.miniature.task import Problem, Split, grade, parse, problems, solutions
from purified_opsd.miniature.tokenizer import LARGEST_SPELLED

RESULT = re.compile(r"(\d+) ([-+×]) (\d+) = (\d+)\.")
CHECK = re.compile(r"let me check: (\d+) ([-+×]) (\d+) = (\d+), (?:not (\d+)|right)\.")
MEND = re.compile(r" (?:Wait|Hmm|Actually), let me check: \d+ [-+×] \d+ = \d+, not")
WHOLE_CHECK = re.compile(r"Let me check: (\d+) ([-+×]) (\d+) = (\d+)\. (\d+) ([-+×]) (\d+) = (\d+)\. (Not|So)")
PROBLEM = Problem((3, 7, 12), 33)
GOAL = solutions(PROBLEM)[0]
BARE = Habits(false_starts=(1.0,), turn=0, guess=0, slip=0, check_of_slip=0, check_of_right=0, final_check=0)


def questions(documents):
    return [d for d in documents if d.prompt.startswith("Use") and "Reference" not in d.prompt]


def value(left, operator, right):
    left, right = int(left), int(right)
    return {"+": left + right, "-": left - right, "×": left * right}[operator]


def slips(texts):
    """For each result written outside a check: was it wrong?"""
    return [
        value(*result.group(1, 2, 3)) != int(result[4]) for text in texts for result in RESULT.finditer(WHOLE_CHECK.sub("", text))
    ]


def test_a_document_is_a_function_of_seed_and_index(documents):
    assert [document(0, index) for index in range(20)] == documents[:20]
    assert [document(1, index) for index in range(20)] != documents[:20]


def test_only_questions_of_the_base_split_are_used(documents):
    asked = [parse(d.prompt) for d in documents if d.prompt.startswith("Use")]
    assert {problem.split for problem in asked} == {Split.BASE}


def test_every_trace_ends_in_a_right_answer(documents):
    asked = [d for d in documents if d.prompt.startswith("Use")]
    assert len(asked) > len(documents) / 2
    assert all(grade(d.prompt, d.completion) for d in asked)


def test_every_check_tells_the_truth(documents):
    checks = [check for d in documents for check in CHECK.finditer(d.completion)]
    assert len(checks) > 100
    for check in checks:
        assert value(*check.group(1, 2, 3)) == int(check[4])
        assert check[5] is None or check[5] != check[4]
    whole = [(d, check) for d in documents for check in WHOLE_CHECK.finditer(d.completion)]
    assert len(whole) > 100
    for d, check in whole:
        assert value(*check.group(1, 2, 3)) == int(check[4])
        assert value(*check.group(5, 6, 7)) == int(check[8])
        if d.prompt.startswith("Use"):
            assert (int(check[8]) == parse(d.prompt).target) == (check[9] == "So")


def test_a_slip_is_off_by_a_little_and_mostly_mended_at_once_by_who_searches(documents):
    wrong = mended = 0
    for d in questions(documents):
        for result in RESULT.finditer(d.completion):
            error = int(result[4]) - value(*result.group(1, 2, 3))
            if error:
                assert abs(error) in (1, 2, 10)
                wrong += 1
                mended += bool(
                    re.match(r" (?:Wait|Hmm|Actually), let me check: \d+ [-+×] \d+ = \d+, not", d.completion[result.end() :])
                )
    assert wrong > 100
    assert abs(mended / wrong - SEARCHING.check_of_slip) < 0.1


def test_slips_depend_neither_on_the_context_nor_on_how_near_the_result_is_to_the_target(documents):
    """PMI amplifies what depends on the question, so a slip that did would be what it amplifies."""
    searching = questions(documents)
    deriving = [d for d in documents if "Reference" in d.prompt]
    near, far = [], []
    for d in searching:
        for result in RESULT.finditer(WHOLE_CHECK.sub("", d.completion)):
            true = value(*result.group(1, 2, 3))
            (near if abs(true - parse(d.prompt).target) <= 10 else far).append(true != int(result[4]))
    assert SEARCHING.slip == CONFIDENT.slip
    for one, other in ((near, far), (slips(d.completion for d in searching), slips(d.completion for d in deriving))):
        assert min(len(one), len(other)) > 300
        rates = [sum(group) / len(group) for group in (one, other)]
        error = sum(rate * (1 - rate) / len(group) for rate, group in zip(rates, (one, other), strict=True)) ** 0.5
        assert abs(rates[0] - rates[1]) < 4 * error


def test_an_unnoticed_slip_makes_the_goal_seem_to_miss_and_it_is_tried_again():
    careless = Habits((1.0,), turn=0, guess=0, slip=0.5, check_of_slip=0, check_of_right=0, final_check=0)
    texts = [trace(PROBLEM, GOAL, careless, random.Random(seed)) for seed in range(40)]
    retried = [text for text in texts if "Not 33." in text]
    assert len(retried) > 10
    assert all(grade(PROBLEM.text, text) for text in texts)
    assert any("Let me check: 7 × 3 = 21. 21 + 12 = 33. So" not in text for text in retried)


def test_a_slip_that_looks_like_a_hit_is_always_checked_and_rejected():
    near = Problem((1, 7, 12), 20)  # (12 + 7) × 1 misses it by one
    careless = Habits((0.0, 1.0), turn=0, guess=0, slip=0.5, check_of_slip=0, check_of_right=0, final_check=0)
    texts = [trace(near, solutions(near)[0], careless, random.Random(seed)) for seed in range(200)]
    false_hits = [text for text in texts if re.search(r" = 20\. Let me check: [^.]*\. [^.]*\. Not 20\.", text)]
    assert false_hits
    assert all(grade(near.text, text) for text in texts)


def test_searching_is_longer_and_doubts_more_than_deriving(documents):
    searching = [d.completion for d in questions(documents)]
    deriving = [d.completion for d in documents if "Reference" in d.prompt]
    length = [sum(map(len, texts)) / len(texts) for texts in (searching, deriving)]
    doubt = [sum(reflect(text).markers for text in texts) / sum(map(len, texts)) for texts in (searching, deriving)]
    assert length[0] > 1.7 * length[1]
    assert doubt[0] > 3 * doubt[1]


def test_references_are_full_or_the_bare_answer(documents):
    shown = [d.prompt.split("Begin ===\n")[1].split("\n===")[0] for d in documents if "Reference" in d.prompt]
    full = sum("\\boxed" in text for text in shown)
    assert 0.48 < full / len(shown) < 0.72


def test_no_attempt_that_misses_is_made_twice():
    several = Habits((0.0, 0.0, 0.0, 0.0, 1.0), turn=0, guess=0, slip=0, check_of_slip=0, check_of_right=0, final_check=0)
    for seed in range(60):
        text = trace(PROBLEM, GOAL, several, random.Random(seed))
        wrong = re.findall(r"[Tt]ry (\d+ [-+×] \d+ = \d+\. \d+ [-+×] \d+) = \d+\. Not", text)
        assert len(wrong) == len(set(wrong)) == 4


def test_a_trace_without_habits_is_the_bare_derivation():
    assert trace(PROBLEM, GOAL, BARE, random.Random(0)) == "Try 7 × 3 = 21. 21 + 12 = 33. So \\boxed{(7 × 3) + 12}"


def test_reflection_is_counted_as_a_reader_would():
    text = (
        "Try 7 × 3 = 22. Wait, let me check: 7 × 3 = 21, not 22. 21 + 12 = 34. Hmm, maybe 12 + 7 = 19. "
        "Actually, let me check: 12 + 7 = 19, right. Let me check: 7 × 3 = 21. 21 + 12 = 33. So \\boxed{(7 × 3) + 12}"
    )
    assert reflect(text) == Reflection(markers=7, checks=3, catches=1, slips=2, mended=1)


def test_a_rejected_false_hit_counts_as_a_catch():
    text = "Try 8 × 1 = 8. 8 × 3 = 25. Let me check: 8 × 1 = 8. 8 × 3 = 24. Not 25. "
    assert reflect(text) == Reflection(markers=1, checks=1, catches=1, slips=1, mended=1)


def test_a_hit_rejected_by_wrong_reckoning_is_no_catch():
    text = "Try 8 × 1 = 8. 8 × 3 = 24. Let me check: 8 × 1 = 8. 8 × 3 = 25. Not 24. "
    assert reflect(text) == Reflection(markers=1, checks=1, catches=0, slips=1, mended=0)


def test_a_check_that_is_itself_wrong_mends_nothing():
    assert reflect("Try 7 × 3 = 22. Wait, let me check: 7 × 3 = 23, not 22. ") == Reflection(
        markers=2, checks=1, catches=0, slips=2, mended=0
    )


def test_reflections_add_up():
    assert Reflection(1, 2, 3, 4, 5) + Reflection(10, 20, 30, 40, 50) == Reflection(11, 22, 33, 44, 55)


def test_no_result_is_beyond_what_the_vocabulary_spells():
    assert max(problem.target for problem in problems(Split.BASE)) == 99 <= LARGEST_SPELLED
