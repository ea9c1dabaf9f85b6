"""The task's generator, splits and grader against truths worked out by hand."""

import pytest

from purified_opsd.miniature.rows import draw_rows
from purified_opsd.miniature.task import (
    Derivation,
    Problem,
    Split,
    Step,
    derivations,
    grade,
    parse,
    problems,
    reference,
    solutions,
)

PROBLEM = "Use 3, 7 and 12 once each with +, - and × to make 33."


def test_the_derivations_of_small_numbers_are_those_found_by_hand():
    expressions = {derivation.expression for derivation in derivations((1, 1, 2))}
    two_last = {"(1 + 1) + 2", "(1 + 1) × 2", "(1 × 1) + 2", "(1 × 1) × 2", "2 - (1 × 1)"}
    two_first = {"(2 + 1) + 1", "(2 + 1) - 1", "(2 + 1) × 1", "(2 - 1) + 1", "(2 - 1) × 1"}
    two_first |= {"(2 × 1) + 1", "(2 × 1) - 1", "(2 × 1) × 1"}
    assert expressions == two_last | two_first


def test_every_problem_has_a_solution_that_the_grader_accepts():
    for problem in problems(Split.EVALUATION)[::25]:
        answers = [solution.expression for solution in solutions(problem)]
        assert answers
        assert all(grade(problem.text, f"So \\boxed{{{answer}}}") for answer in answers)


def test_splits_share_no_question_and_leave_none_out():
    pools = {split: set(problems(split)) for split in Split}
    assert sum(map(len, pools.values())) == len(set.union(*pools.values()))
    assert {split: len(pool) for split, pool in pools.items()} == {
        Split.BASE: 9191, Split.DISTILLATION: 1955, Split.EVALUATION: 1924,
    }  # fmt: skip
    assert Problem((1, 2, 3), 6) in set.union(*pools.values())


def test_a_split_does_not_depend_on_the_order_in_which_a_text_names_the_numbers():
    assert (
        parse("Use 12, 3 and 7 once each with +, - and × to make 33.").split is parse(PROBLEM).split
    )


def test_rows_are_a_function_of_seed_and_count_and_hold_no_question_twice():
    drawn = draw_rows(Split.EVALUATION, seed=1, count=100)
    assert drawn == draw_rows(Split.EVALUATION, seed=1, count=100)
    assert drawn != draw_rows(Split.EVALUATION, seed=2, count=100)
    assert len({row["problem"] for row in drawn}) == 100
    assert all(grade(row["problem"], row["solution"]) for row in drawn)
    assert all(row["solution"].endswith(f"\\boxed{{{row['answer']}}}") for row in drawn)


def test_more_rows_than_questions_are_refused():
    with pytest.raises(ValueError, match=r"count must lie in 1\.\.1924, got 1925"):
        draw_rows(Split.EVALUATION, seed=0, count=1925)


def test_rows_have_the_columns_of_any_training_set_and_are_of_their_split():
    drawn = draw_rows(Split.DISTILLATION, seed=0, count=20)
    assert [list(row) for row in drawn] == [["id", "problem", "solution", "answer"]] * 20
    assert {parse(row["problem"]).split for row in drawn} == {Split.DISTILLATION}


def test_the_reference_is_one_of_the_solutions_and_depends_on_the_seed():
    problem = Problem((2, 2, 4), 8)
    drawn = {reference(problem, seed) for seed in range(20)}
    assert drawn <= set(solutions(problem))
    assert len(drawn) > 1


def test_a_derivation_reads_as_it_is_reckoned():
    taken_away = Derivation(Step(7, "+", 3), Step(12, "-", 10), result_on_left=False)
    assert (taken_away.value, taken_away.last_number) == (2, 12)
    assert taken_away.text == "7 + 3 = 10. 12 - 10 = 2. So \\boxed{12 - (7 + 3)}"


@pytest.mark.parametrize(
    "box",
    [
        "(3 × 7) + 12",
        "12 + 7 × 3",
        "12+3*7",
        "((12)) + (7 \\times 3)",
        "3 \\cdot 7 + 12",
        "7×3+12",
    ],
)
def test_right_answers_in_many_spellings(box):
    assert grade(PROBLEM, f"Hmm. So \\boxed{{{box}}}")


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "33",
        "(3 × 7) + 12",
        "\\boxed{}",
        "\\boxed{33}",
        "\\boxed{(3 × 7) + 12",
        "\\boxed{(3 × 7 + 12}",
        "\\boxed{3 × 7) + 12}",
        "\\boxed{(3 × 7) + 12 = 33}",
        "\\boxed{3 × 7}",
        "\\boxed{3 × 7 + 12 + 12 - 12}",
        "\\boxed{3 × 7 + 12 - 0}",
        "\\boxed{(3 + 7) + 12}",
        "\\boxed{37 - 12}",
        "\\boxed{+ 3 × 7 + 12}",
        "\\boxed{3 7 × 12}",
        "\\boxed{(3 × 7) 12 +}",
        "\\boxed{3 × 7 ++ 12}",
        "\\boxed{99 / 3 - 7 + 12}",
        "\\boxed{9**9**9}",
        "\\boxed{3**7**12}",
        "\\boxed{__import__('os').getcwd()}",
        "\\boxed{3 × 7 + 12 # yes}",
        "\\boxed{" + "(" * 100_000 + "3 × 7 + 12" + ")" * 100_000 + "}",
        "\\boxed{(3 × 7) + 12} no, \\boxed{(3 + 7) + 12}",
        "\\boxed{(3 × 7) + 12} no, \\boxed{",
        "\\boxed{３ × 7 + 12}",
        "\\boxed{\x00}",
    ],
)
def test_wrong_and_hostile_completions_are_wrong_and_no_error(completion):
    assert not grade(PROBLEM, completion)


def test_the_last_box_counts_and_a_nested_box_is_its_inner_one():
    assert grade(PROBLEM, "\\boxed{(3 + 7) + 12} Wait, \\boxed{(3 × 7) + 12}")
    assert grade(PROBLEM, "\\boxed{\\boxed{(3 × 7) + 12}}")


def test_precedence_and_negative_results_on_the_way():
    assert grade("Use 2, 3 and 4 once each with +, - and × to make 14.", "\\boxed{2 + 3 × 4}")
    assert not grade("Use 2, 3 and 4 once each with +, - and × to make 20.", "\\boxed{2 + 3 × 4}")
    assert grade("Use 2, 3 and 4 once each with +, - and × to make 3.", "\\boxed{2 − 3 + 4}")
    assert grade("Use 2, 3 and 4 once each with +, - and × to make 3.", "\\boxed{(2 - 3) + 4}")


def test_a_number_given_twice_is_used_twice():
    twice = "Use 4, 4 and 5 once each with +, - and × to make 21."
    assert grade(twice, "\\boxed{4 × 4 + 5}")
    assert not grade(twice, "\\boxed{4 × 5 + 1}")


def test_a_text_without_a_question_cannot_be_graded():
    with pytest.raises(ValueError, match="must hold a sentence such as"):
        grade("What is 2 + 2?", "\\boxed{4}")


def test_a_question_is_found_inside_a_longer_prompt():
    assert parse(f"Dear model,\n{PROBLEM}\n\nThink.") == Problem((3, 7, 12), 33)
