import pytest

from purified_opsd.reporting.sanitize import csv_cell, shortened, visible
from purified_opsd.reporting.terminal import completion_text
from purified_opsd.storage.completions import CompletionRow


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\rd", "a⏎b⇥c␍d"),
        ("\x1b[31mred\x07\x00\x7f", "␛[31mred␇␀␡"),
        ("\x9b2J", "⟨U+009B⟩2J"),  # ESC [ in one character
        (
            "x\u202egnp.exe\u200f\u200b\ufeff\u2028",
            "x⟨U+202E⟩gnp.exe⟨U+200F⟩⟨U+200B⟩⟨U+FEFF⟩⟨U+2028⟩",
        ),
        ("\U000e0041", "⟨U+E0041⟩"),  # a tag, which is read by models and seen by nobody
        ("plain é ≤ 漢 😀", "plain é ≤ 漢 😀"),
    ],
)
def test_what_is_unseen_gets_a_sign(text, shown):
    assert visible(text) == shown


def test_what_is_kept_stays():
    assert visible("a\n\tb", keep="\n") == "a\n⇥b"


ROW = {
    "number": 2,
    "from": "target",
    "target": {"beta": 1.0, "clip": 10.0, "center_rows": None},
    "step": None,
    "problem": "What\x1b[2J is\n1 + 1?",
    "reference": "word " * 1000,
    "sampling": {"temperature": 0.0},
}
COMPLETION = CompletionRow(
    id="p1\x1b]0;title\x07",
    finish_reason="length",
    text="\n\x1b[8mhidden\u202e text\r\n" + "and so on " * 30,
    completion_ids=[1, 2, 3],
    extras=ROW,
)


@pytest.mark.parametrize("width", [40, 100])
def test_a_layout_holds_its_width_and_nothing_that_a_terminal_would_obey(width):
    laid = completion_text(COMPLETION, width)
    assert all(
        len(line) <= width for line in laid.splitlines() if not line.startswith("Purified target,")
    )
    assert not {c for c in laid if ord(c) < 32 and c != "\n"} | {
        c for c in laid if c in "\x7f\x9b\u202e"
    }
    assert "── 2 · p1␛]0;title␇ ──" in laid
    assert "  What␛[2J is\n  1 + 1?" in laid
    assert "characters more in the file)" in " ".join(laid.split())
    assert (
        "Purified target, beta 1, clip 10: temperature 0, 3 tokens, cut off\n  ␛[8mhidden⟨U+202E⟩ "
        "text␍\n  and so on" in laid
    )


def test_a_cell_is_no_formula():
    assert [csv_cell(text) for text in ("=1+1", " =1", "+1", "-1", "@x", "\t=1", "base")] == [
        "'=1+1", "' =1", "'+1", "'-1", "'@x", "⇥=1", "base",
    ]  # fmt: skip
    assert (csv_cell(-1.5), csv_cell(None), csv_cell(3)) == (-1.5, None, 3)


def test_a_long_text_keeps_its_ends_and_tells_what_is_missing():
    assert shortened("a" * 8, 8) == "a" * 8
    assert (
        shortened("a" * 600 + "b" * 600, 400)
        == "a" * 300 + "\n[… 800 characters left out …]\n" + "b" * 100
    )
