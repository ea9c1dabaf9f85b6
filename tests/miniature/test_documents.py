"""What the base learns from: every line is right, every slip is mended, and reflection stands where it is needed."""

import random
import re

from purified_opsd.miniature.documents import CAREFUL, CONFIDENT, SEARCHING, derive, document, search
from purified_opsd.miniature.reflection import Reflection, reflect
from purified_opsd.miniature.task import Problem, Split, grade, parse, problems, solutions
from purified_opsd.miniature.tokenizer import LARGEST_SPELLED

RESULT = re.compile(r"(\d+) ([-+×]) (\d+) = (\d+)\.")
BACKWARD = re.compile(r"(x|\d+) ([-+×]) (x|\d+) = (\d+), so x = (\d+)\.")
MEND = re.compile(r" (?:Wait|Hmm|Actually), let me check: (\d+ [-+×] \d+) = (\d+), not (\d+)\.")
REJECTION = re.compile(r" Let me check: (\d+ [-+×] \d+ = \d+)\. (\d+ [-+×] \d+ = (\d+))\. Not (\d+)\.")
CHECK = re.compile(r"let me check: (\d+) ([-+×]) (\d+) = (\d+), (?:not (\d+)|right)\.")


def questions(documents):
    return [d for d in documents if d.prompt.startswith("Use") and "Reference" not in d.prompt]


def value(left, operator, right):
    return {"+": left + right, "-": left - right, "×": left * right}[operator]


def test_a_document_is_a_function_of_seed_index_and_habits(searching_documents):
    assert [document(0, index, SEARCHING) for index in range(20)] == searching_documents[:20]
    assert [document(1, index, SEARCHING) for index in range(20)] != searching_documents[:20]
    assert [document(0, index, CAREFUL) for index in range(20)] != searching_documents[:20]


def test_only_questions_of_the_base_split_are_used(documents):
    asked = [parse(d.prompt) for d in documents if d.prompt.startswith("Use")]
    assert {problem.split for problem in asked} == {Split.BASE}


def test_every_trace_ends_in_a_right_answer(documents):
    asked = [d for d in documents if d.prompt.startswith("Use")]
    assert len(asked) > len(documents) / 2
    assert all(grade(d.prompt, d.completion) for d in asked[::2])


def test_every_result_is_right_or_mended_at_once(documents):
    slips = 0
    for completion in (d.completion for d in documents):
        for result in RESULT.finditer(completion):
            left, operator, right, written = int(result[1]), result[2], int(result[3]), int(result[4])
            if value(left, operator, right) == written:
                continue
            slips += 1
            if REJECTION.match(completion, result.end()):
                continue
            mend = MEND.match(completion, result.end())
            assert mend is not None, completion
            assert mend[1] == f"{left} {operator} {right}"
            assert (int(mend[2]), int(mend[3])) == (value(left, operator, right), written)
            assert 0 < abs(int(mend[2]) - written) <= 10
    assert slips > 80


def test_every_x_solves_its_equation_or_is_mended_at_once(documents):
    slips = 0
    for completion in (d.completion for d in documents):
        for opening in BACKWARD.finditer(completion):
            x = opening[5]
            left, right = (int(side.replace("x", x)) for side in (opening[1], opening[3]))
            if value(left, opening[2], right) != int(opening[4]):
                mend = MEND.match(completion, opening.end())
                assert mend is not None, completion
                assert mend[3] == x
                slips += 1
    assert slips > 8


def test_every_check_tells_the_truth(documents):
    checks = [check for d in documents for check in CHECK.finditer(d.completion)]
    assert len(checks) > 100
    for check in checks:
        assert value(int(check[1]), check[2], int(check[3])) == int(check[4])
        assert check[5] is None or check[5] != check[4]


def test_a_false_hit_is_off_by_a_little_and_the_check_of_the_whole_rejects_it(documents):
    rejections = [(d, check) for d in documents for check in REJECTION.finditer(d.completion)]
    assert len(rejections) > 20
    for d, check in rejections:
        assert int(check[4]) == parse(d.prompt).target != int(check[3])
        for step in (check[1], check[2]):
            left, operator, right, _, written = step.split()
            assert value(int(left), operator, int(right)) == int(written)
        claimed = RESULT.findall(d.completion[: check.start() + 1])[-1]
        true = value(int(claimed[0]), claimed[1], int(claimed[2]))
        assert 0 < abs(true - int(claimed[3])) <= 10


def test_slips_that_single_checks_mend_do_not_depend_on_how_near_the_result_is_to_the_target(searching_documents):
    near, far = [], []
    for d in questions(searching_documents):
        target = parse(d.prompt).target
        for result in RESULT.finditer(d.completion):
            true = value(int(result[1]), result[2], int(result[3]))
            (near if abs(true - target) <= 10 else far).append(true != int(result[4]))
    rates = [sum(group) / len(group) for group in (near, far)]
    assert min(len(near), len(far)) > 300
    error = sum(rate * (1 - rate) / len(group) for rate, group in zip(rates, (near, far), strict=True)) ** 0.5
    assert abs(rates[0] - rates[1]) < 4 * error


def test_searching_is_longer_and_doubts_more_than_deriving(documents):
    searching = [d.completion for d in questions(documents)]
    deriving = [d.completion for d in documents if "Reference" in d.prompt]
    mean = {name: sum(map(len, texts)) / len(texts) for name, texts in (("searching", searching), ("deriving", deriving))}
    doubt = {name: sum(reflect(text).markers for text in texts) / len(texts) for name, texts in (("s", searching), ("d", deriving))}
    assert mean["searching"] > 1.7 * mean["deriving"]
    assert doubt["s"] > 3 * doubt["d"]


def test_references_are_full_or_the_bare_answer(documents):
    shown = [d.prompt.split("Begin ===\n")[1].split("\n===")[0] for d in documents if "Reference" in d.prompt]
    full = sum("\\boxed" in text for text in shown)
    assert 0.48 < full / len(shown) < 0.72


def test_no_attempt_is_made_twice():
    problem = Problem((3, 7, 12), 33)
    for seed in range(60):
        trace = search(problem, solutions(problem)[0], SEARCHING, random.Random(seed))
        wrong = re.findall(r"(?:[Tt]ry|aybe|erhaps) (\d+ [-+×] \d+ = \d+\. \d+ [-+×] \d+) = \d+\. Not", trace)
        assert len(wrong) == len(set(wrong))


def test_a_trace_without_habits_of_doubt_is_the_bare_derivation():
    problem = Problem((3, 7, 12), 33)
    texts = {derive(problem, solutions(problem)[0], random.Random(seed)) for seed in range(60)}
    assert "First 7 × 3 = 21. Then 21 + 12 = 33. So \\boxed{(7 × 3) + 12}" in texts
    assert "So \\boxed{(7 × 3) + 12}" in texts


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


def test_the_search_doubts_and_the_derivation_does_not():
    for habits in (SEARCHING, CAREFUL):
        assert habits.turn > CONFIDENT.turn
        assert habits.final_check > CONFIDENT.final_check
        assert habits.slip == CONFIDENT.slip, "slips that depend on the context would be what PMI amplifies"


def test_no_result_is_beyond_what_the_vocabulary_spells():
    assert max(problem.target for problem in problems(Split.BASE)) == 99 <= LARGEST_SPELLED
