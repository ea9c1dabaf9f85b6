"""The token microscope in a real browser: read, stepped through by keyboard, and fed with hostile
text.
"""

from html.parser import HTMLParser

import pytest

from purified_opsd.reporting.microscope import fragment, page, read_trajectories
from purified_opsd.reporting.sanitize import visible
from purified_opsd.storage.completions import CompletionRow, write_completion

HOSTILE = "</script><img src=x onerror=document.title='broken'>"
WORDS = [
    "So ",
    "Wait, ",
    "7",
    " + ",
    "\n",
    HOSTILE,
    "\x1b[31m",
    "\u202eevil",
    "⟨e2⟩",
    "let me check: ",
    "15",
    "",
]
TEXT = [0, 2, 3, 2, 4, 1, 5, 6, 7, 8, 9, 10, 11]
MARKERS = [[5, 5, "wait"], [10, 10, "check"]]


NAMES = ["base π₀", "student π_θ", "teacher π_T", "probe π_ref", "purified target P"]


def token(place, id):
    """Numbers that differ by place, so that a mix-up shows."""
    p = 0.02 * place
    spread = {
        name: p + 0.1 * k
        for k, name in enumerate(("base", "student", "teacher", "reference", "target"))
    }
    return {
        "text": WORDS[id],
        "id": id,
        "numbers": {
            "jsd_target": 0.01 * place,
            "jsd_teacher": 0.02 * place,
            "delta_it": -0.1 * place,
            "delta_ref": 0.1 * place,
            "student_minus_base": 0.001 * place**2,
            "teacher_minus_base": -3.0 if id in (1, 9) else 0.5,
            "target_minus_base": -0.1,
        },
        "probabilities": spread,
        "top": {name: [[id, value], [5, 0.00005], [6, 0.25]] for name, value in spread.items()},
        "raised": {"base": [[1, 0.25, 0.75]], "teacher": [[5, 0.1, 0.2]]},
        "lowered": {"base": [[2, 0.5, 0.1]], "teacher": []},
    }


def trajectory(candidate, id="p1", text=TEXT, markers=MARKERS):
    extras = {
        "settings": {"weights": "secret"},
        "candidate": candidate,
        "problem": f"Why?\n{HOSTILE}",
        "reference": f"{HOSTILE}\u202e",
        "reference_cut": True,
        "markers": markers,
        "vocabulary": {str(k): word for k, word in enumerate(WORDS)},
        "tokens": [token(place, id) for place, id in enumerate(text)],
    }
    return CompletionRow(id, "length", "".join(WORDS[k] for k in text), text, extras=extras)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "microscope.html"
    trajectories = [
        trajectory("base"),
        trajectory("step-000004", HOSTILE, [4, 2, 3], []),
        trajectory("step-000004", "p3", TEXT[5:], []),
    ]
    file.write_text(page(trajectories, HOSTILE), encoding="utf-8")
    return file


@pytest.fixture
def opened(browser, file):
    """The page at 1,600 px; afterwards nothing was logged, asked for or executed."""
    tab = browser.new_page(viewport={"width": 1600, "height": 900})
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    yield tab
    assert said == []
    assert asked == [file.as_uri()]
    assert tab.title() == f"Token microscope: {HOSTILE}"
    assert tab.locator("img").count() == 0
    tab.close()


def panel(tab):
    return tab.locator(".panel").inner_text()


def chosen(tab):
    """Place of the one token that is selected and can be reached by Tab."""
    selected = tab.locator(".token[aria-selected=true]")
    assert selected.count() == tab.locator(".token[tabindex='0']").count() == 1
    assert selected.get_attribute("tabindex") == "0"
    return int(selected.get_attribute("data-place"))


def test_a_click_on_a_token_shows_what_everyone_makes_of_it(opened):
    assert chosen(opened) == 5  # the first marker
    opened.locator(".token").nth(3).click()
    assert chosen(opened) == 3
    assert "token 4 of 13, id 2" in panel(opened)
    own = dict(row.split("\n") for row in opened.locator(".numbers li").all_inner_texts())
    assert [own[name] for name in NAMES] == ["6.0%", "16%", "26%", "36%", "46%"]
    assert (own["JSD(student ‖ target)"], own["JSD(student ‖ teacher)"]) == ("0.0300", "0.0600")
    assert (own["Δ_it"], own["Δ_ref"], own["teacher − base"], own["target − base"]) == (
        "−0.30",
        "+0.30",
        "+0.50",
        "−0.10",
    )
    assert opened.locator(".tops h4").all_inner_texts() == NAMES
    assert opened.locator(".tops li.written").all_inner_texts() == [
        "7\n6.0%",
        "7\n16%",
        "7\n26%",
        "7\n36%",
        "7\n46%",
    ]
    assert opened.locator(".tops li").nth(1).inner_text().endswith("\n<0.01%")
    assert opened.locator(".raised li").all_inner_texts() == [
        "Wait,␣\n25% → 75%",
        f"{HOSTILE}\n10% → 20%",
    ]
    assert opened.locator(".lowered li").all_inner_texts() == ["7\n50% → 10%"]
    assert "Target lowers against the teacher\nnothing by 0.01% or more" in panel(opened).replace(
        "\n\n", "\n"
    )


def test_bars_are_as_long_as_their_probabilities(opened):
    opened.locator(".token").nth(3).click()
    bars = opened.locator(".tops li.written")
    assert [
        bars.nth(k).evaluate("bar => bar.style.getPropertyValue('--share')") for k in (0, 4)
    ] == ["0.06", "0.46"]
    width = opened.locator(".raised li").first.evaluate(
        "bar => getComputedStyle(bar).backgroundSize"
    )
    assert width == "calc(50%) 100%" or width.startswith("50%")


def test_the_keyboard_steps_through_tokens_and_markers(opened):
    opened.locator(".token").nth(3).click()
    for key, place in [
        ("ArrowRight", 4),
        ("ArrowLeft", 3),
        ("n", 5),
        ("n", 10),
        ("n", 10),  # there is no further one
        ("p", 5),
        ("Shift+ArrowRight", 10),
        ("Shift+ArrowLeft", 5),
        ("End", 12),
        ("ArrowRight", 12),
        ("Home", 0),
        ("ArrowLeft", 0),
    ]:
        opened.keyboard.press(key)
        assert chosen(opened) == place, key
        assert f"token {place + 1} of 13" in panel(opened)
        assert opened.evaluate("document.activeElement.dataset.place") == str(place)


def test_the_page_is_usable_without_a_mouse(opened):
    for _ in range(4):  # completion, colour, question, tokens
        opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.dataset.place") == "5"
    opened.keyboard.press("ArrowRight")
    assert "token 7 of 13" in panel(opened)


def test_markers_stand_out_and_are_listed_with_their_probabilities(opened):
    assert opened.locator(".token.marker").all_inner_texts() == ["Wait, ", "let me check: "]
    rows = [row.split("\t") for row in opened.locator(".markers tr").all_inner_texts()]
    assert rows[0] == ["written", "base", "student", "teacher", "probe", "target"]
    assert rows[1] == ["mean of 2", "15%", "25%", "35%", "45%", "55%"]
    assert [cell.strip() for cell in rows[3]] == [
        "let me check:␣",
        "20%",
        "30%",
        "40%",
        "50%",
        "60%",
    ]
    opened.locator(".markers button").nth(1).click()
    assert chosen(opened) == 10


def background(tab, place):
    return (
        tab.locator(".token")
        .nth(place)
        .evaluate("token => getComputedStyle(token).backgroundImage")
    )


def test_the_colour_follows_the_chosen_quantity(opened):
    opened.locator(".token").nth(0).click()
    by_quantity = {}
    for label in opened.locator(".quantity option").all_inner_texts():
        opened.locator(".quantity").select_option(label=label)
        by_quantity[label] = [background(opened, place) for place in range(len(TEXT))]
        assert opened.locator(".says").inner_text()
        assert "nats" in opened.locator(".legend").inner_text()
    assert len({str(colours) for colours in by_quantity.values()}) == len(by_quantity) == 6
    halves = by_quantity["teacher ▀ and target ▄ against base"]
    assert halves[5] == halves[10] != halves[4]  # the teacher would rather have no marker there
    growing = by_quantity["JSD(student ‖ target)"]
    assert len(set(growing)) == len(growing)  # as the values differ at each place


def test_signs_have_colours_of_their_own(opened):
    opened.locator(".quantity").select_option(label="Δ_it of the written token")
    against = background(opened, 12)
    opened.locator(".quantity").select_option(label="Δ_ref of the written token")
    assert background(opened, 12) != against  # of the same size


def test_hostile_text_is_shown_and_does_nothing(opened):
    shown = opened.locator(".text").inner_text()
    for sign in (HOSTILE, "␛[31m", "⟨U+202E⟩evil", "⏎", "⟨e2⟩"):
        assert sign in shown
    assert "\x1b" not in opened.content()
    assert "\u202e" not in opened.content()
    opened.locator("summary").click()
    assert opened.locator(".problem").inner_text() == f"Why?\n{HOSTILE}"
    assert (
        opened.locator(".reference").inner_text()
        == f"{HOSTILE}⟨U+202E⟩\n(shortened in the prompts)"
    )
    opened.locator(".chooser").select_option(index=1)
    assert f"step-000004: {HOSTILE}, 3 tokens, 0 markers" in opened.locator(".chooser").inner_text()
    assert "No epistemic markers" in opened.locator(".markers").inner_text()
    assert "token 1 of 3" in panel(opened)


def test_the_empty_token_can_be_seen_and_chosen(opened):
    opened.locator(".token").nth(12).click()
    assert panel(opened).startswith("∅")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_runs_off_the_side(opened, width, theme):
    opened.emulate_media(color_scheme=theme)
    opened.set_viewport_size({"width": width, "height": 900})
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    for name in (
        ".text",
        ".panel",
        ".markers",
    ):  # nor is anything hidden behind a scroll bar of its own
        assert opened.locator(name).evaluate("box => box.scrollWidth <= box.clientWidth"), name
    text, beside = (opened.locator(name).bounding_box() for name in (".text", ".panel"))
    if width == 400:
        assert beside["y"] > text["y"] + text["height"]
    else:
        assert beside["x"] > text["x"] + text["width"]


def test_fragments_live_side_by_side_in_any_page(browser, tmp_path):
    both = fragment([trajectory("base")]) + fragment(
        [trajectory("step-000020", "other", TEXT[:4], [])]
    )
    (tmp_path / "report.html").write_text(
        f"<!doctype html><meta charset=utf-8><p class=text>host</p>{both}", encoding="utf-8"
    )
    tab = browser.new_page()
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto((tmp_path / "report.html").as_uri())
    first, second = (tab.locator(".microscope").nth(k) for k in (0, 1))
    first.locator(".token").nth(2).click()
    assert "token 3 of 13" in first.inner_text()
    assert "token 1 of 4" in second.inner_text()
    assert (
        tab.locator("p.text").evaluate("p => getComputedStyle(p).overflowY") == "visible"
    )  # no style leaks out
    assert errors == []
    tab.close()


def test_the_page_of_a_run_shows_every_token_of_its_files(browser, command, settings, tmp_path):
    command("train", settings)
    assert command("microscope", "runs/my_run", "--samples", "1")[0] == 0
    run = tmp_path / "runs" / "my_run"
    tab = browser.new_page()
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto((run / "microscope.html").as_uri())
    for place, kept in enumerate(read_trajectories(run)):
        tab.locator(".chooser").select_option(index=place)
        shown = [text.replace("⏎\n", "\n") for text in tab.locator(".token").all_text_contents()]
        assert shown == [visible(token["text"], keep="\n") for token in kept.extras["tokens"]]
    tab.locator(".token").first.click()
    for number, token in enumerate(kept.extras["tokens"], 1):
        assert f"token {number} of {len(shown)}, id {token['id']}" in panel(tab)
        assert (
            tab.locator(".numbers li .figure").nth(5).inner_text()
            == f"{token['numbers']['jsd_target']:.4f}"
        )
        assert tab.locator(".tops li").count() == 40
        tab.keyboard.press("ArrowRight")
    assert errors == []
    tab.close()


class Outside(HTMLParser):
    """What a page would load, and how many elements there are."""

    def __init__(self):
        super().__init__()
        self.links, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [
            value
            for name, value in attributes
            if name in ("src", "href", "srcset", "data", "action")
        ]


def test_a_page_loads_nothing_and_holds_no_element_of_the_models(file):
    outside = Outside()
    outside.feed(file.read_text(encoding="utf-8"))
    assert outside.links == []
    assert outside.tags.count("script") == 2
    assert "img" not in outside.tags
    assert "secret" not in file.read_text(encoding="utf-8")


def test_no_trajectories_are_said_to_be_none():
    assert "No completions were looked at." in page([], "empty")
    assert "<script" not in fragment([])


def test_trajectories_are_read_base_first(tmp_path):
    for candidate in ("step-000020", "base", "step-000004"):
        folder = tmp_path / "microscope" / candidate
        folder.mkdir(parents=True)
        write_completion(folder / "000.json", trajectory(candidate))
    assert [t.extras["candidate"] for t in read_trajectories(tmp_path)] == [
        "base",
        "step-000004",
        "step-000020",
    ]
    assert read_trajectories(tmp_path / "nowhere") == []
