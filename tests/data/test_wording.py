"""The wording of the contexts: settings, checked, with the paper's as the default."""

from pathlib import Path

import pytest
import yaml

from purified_opsd.data.dataset import Example
from purified_opsd.data.prompts import PromptBuilder, Prompts
from purified_opsd.errors import SettingsError
from purified_opsd.settings.build import build, to_yaml

from ..conftest import byte_tokenizer

EXAMPLE = Example(
    "a", "Which {answer}, {reference} or {problem}?", "It is {problem}.", "2", "set:1"
)


def texts(**settings) -> list[str]:
    prompts = PromptBuilder(byte_tokenizer(), Prompts(**settings), room=10_000)
    turns = [prompts.tokenizer.decode(ids) for ids in prompts.contexts(EXAMPLE)[:3]]
    return [text.removeprefix("<|user|>").removesuffix("<|end|><|assistant|>") for text in turns]


def test_the_default_wording_is_what_it_was():
    """Runs are resumed, and evaluations completed, by this hash."""
    assert Prompts().wording("any template") == "0c1d4c4a3457cda3"


def test_a_wording_of_ones_own():
    base, teacher, reference = texts(
        system=None,
        instruction="Answer with one letter, as in \\boxed{A}.",
        base="Question: {problem}\n{instruction}",
        reference="A colleague's notes:\n{reference}\n{instruction}",
    )
    ending = "Answer with one letter, as in \\boxed{A}."
    assert base == f"Question: {EXAMPLE.problem}\n{ending}"
    assert reference == f"A colleague's notes:\n{EXAMPLE.reference}\n{ending}"
    assert teacher == f"{EXAMPLE.problem}\n\n{reference}"


def test_the_example_of_the_documentation():
    page = (Path(__file__).parents[2] / "docs/prompts.md").read_text(encoding="utf-8")
    example = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    base, teacher, reference = texts(**example["prompts"])
    assert EXAMPLE.problem in base
    assert EXAMPLE.problem in teacher
    assert "A colleague has noted:\nIt is {problem}.\n" in reference
    assert teacher.endswith("Answer with one letter, A to D, within \\boxed{}.")


def test_the_teachers_own_wording():
    teacher = "{reference} answers {problem} in \\text{short} words, \\frac{a}{b} {}."
    assert texts(teacher=teacher)[1] == (
        f"{EXAMPLE.reference} answers {EXAMPLE.problem} in \\text{{short}} words, "
        "\\frac{a}{b} {}."
    )


REFUSED = [
    ({"base": "Answer."}, r"prompts.base must hold \{problem\} once each, .* not at all"),
    ({"base": "{problem} {problem}"}, r"holds \{problem\} 2 times\. The student sees the problem"),
    (
        {"base": "{problem} {reference}"},
        r"prompts.base must hold \{problem\}, .* holds \{reference\} once\. The student sees the "
        "problem, and never the reference",
    ),
    (
        {"reference": "{problem} {reference}"},
        r"prompts.reference .* \{problem\} once\. The probe sees the reference without the problem",
    ),
    ({"reference": "{instruction}"}, r"holds \{reference\} not at all"),
    ({"teacher": "{problem}"}, r"\{problem\} and \{reference\} once each, .* not at all"),
    ({"teacher": "{reference}"}, "The teacher sees both"),
    ({"base": "{problem} {instruction} {instruction}"}, r"holds \{instruction\} 2 times"),
    (
        {"base": "{question} {problem}"},
        r"prompts.base holds \{question\}, which is no placeholder: there are \{problem\}, "
        r"\{reference\} and \{instruction\}",
    ),
    ({"instruction": "Answer {problem}."}, "prompts.instruction holds .* is put as it stands"),
    ({"instruction": " "}, "prompts.instruction is empty. Leave it out, or write a text"),
    ({"system": ""}, "prompts.system is empty"),
    ({"date": "yesterday"}, "prompts.date: Input should be a valid date"),
]


@pytest.mark.parametrize(("settings", "says"), REFUSED, ids=[str(case[0]) for case in REFUSED])
def test_a_wording_that_cannot_be_is_refused(settings, says):
    with pytest.raises(SettingsError, match=says):
        build(Prompts, settings, "prompts")


CHANGES = [
    {"system": "Be brief."},
    {"instruction": "Be brief."},
    {"base": "{problem}"},
    {"reference": "{reference}"},
    {"teacher": "{problem} {reference}"},
    {"date": "2026-01-01"},
]


def test_every_change_of_the_words_changes_the_hash(tmp_path):
    hashes = [build(Prompts, change).wording("x") for change in [{}, *CHANGES]]
    own = Prompts(template=tmp_path / "own.jinja")
    hashes += [own.wording("one template"), own.wording("another")]
    assert len(set(hashes)) == len(hashes)
    moved = Prompts(template=tmp_path / "moved.jinja")
    assert moved.wording("another") == own.wording("another")


@pytest.mark.parametrize("change", [*CHANGES, {"template": "own.jinja"}], ids=str)
def test_settings_come_back_from_yaml(change):
    settings = build(Prompts, change)
    assert build(Prompts, yaml.safe_load(to_yaml(settings))) == settings
    assert build(Prompts, yaml.safe_load(yaml.safe_dump(change))) == settings
