"""The report of real runs: whole, in part, with nothing in them, damaged, and written by somebody
who means harm.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import yaml

from purified_opsd.analysis.markers import MARKERS, count_substrings, count_words
from purified_opsd.cli.app import app
from purified_opsd.errors import RunError
from purified_opsd.reporting.marker_counts import MarkerWords, tally_markers
from purified_opsd.reporting.report import content_policy, write_report
from purified_opsd.reporting.runs import Difference, read_runs
from purified_opsd.reporting.sections import sections
from purified_opsd.reporting.tables import setting_differences, table_1
from purified_opsd.reporting.training_curves import decomposition
from purified_opsd.storage.completions import write_completion

from .test_microscope import trajectory

KIMS = MarkerWords(MARKERS, count_substrings, count_words)


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    """Both arms on the miniature, trained, evaluated and diagnosed: real in everything but size."""
    folder = tmp_path_factory.mktemp("runs")
    for arm in ("pmi", "standard"):
        run = str(folder / arm)
        train = [
            "train",
            f"miniature.{arm}",
            "--output-dir",
            run,
            "--steps",
            "1",
            "--batch-size",
            "2",
        ]
        evaluate = [
            "evaluate",
            run,
            "--benchmarks",
            "countdown",
            "--runs",
            "1",
            "--limit",
            "4",
            "--max-new-tokens",
            "40",
        ]
        for words in (
            [*train, "--sampling.max-new-tokens", "40"],
            evaluate,
            ["diagnose", run, "--samples", "2"],
        ):
            app(words, standalone_mode=False)
    return folder


@pytest.fixture
def runs(arms, tmp_path):
    """A copy of them that a test may spoil."""
    return shutil.copytree(arms, tmp_path / "runs")


def report(folders, tmp_path):
    write_report(folders, tmp_path / "report.html", KIMS)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def remove(place):
    shutil.rmtree(place) if place.is_dir() else place.unlink()


def words_of(page):
    """What a reader reads, without the drawings."""
    text = re.sub(r"<(style|svg).*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    return " ".join(text.replace("&#39;", "'").split())


@pytest.fixture(scope="module")
def whole(arms, tmp_path_factory):
    """The report of both arms."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, report([arms / "pmi", arms / "standard"], folder)


def test_every_figure_comes_as_png_svg_and_csv(whole):
    folder, page = whole
    names = {file.stem for file in (folder / "report_files").iterdir()}
    assert {
        "accuracy",
        "markers-evaluation",
        "markers-evaluation-distribution",
        "markers-evaluation-each",
        "decomposition",
        "decomposition-weighted",
        "decomposition-top64",
        "distances",
        "lengths",
        "seconds",
        "training",
    } <= names
    for name in names:
        assert (folder / f"report_files/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(folder / f"report_files/{name}.svg").getroot().tag.endswith("svg")
        assert len((folder / f"report_files/{name}.csv").read_text().splitlines()) > 1
        assert f'href="report_files/{name}.csv"' in page
    assert len(list((folder / "report_files").iterdir())) == 3 * len(names)


def test_the_figures_numbers_are_those_of_the_evaluation(whole, arms):
    folder, _ = whole
    rows = list(csv.DictReader((folder / "report_files/accuracy.csv").open()))
    scores = json.loads((arms / "standard/evaluation/results.json").read_text())["scores"]
    drawn = {int(row["step"]): row for row in rows if row["curve"] == "standard"}
    assert sorted(drawn) == [0, 1]
    for score in scores:
        row = drawn[0 if score["candidate"] == "base" else int(score["candidate"][5:])]
        assert float(row["value"]) == pytest.approx(100 * score["accuracy"])
        assert float(row["standard_error"]) == pytest.approx(
            100 * score["interval"]["standard_error"]
        )


def test_markers_are_counted_as_the_evaluation_counts_them(arms):
    found = tally_markers(arms / "pmi", "evaluation", KIMS)
    scores = {
        row["candidate"]: row
        for row in json.loads((arms / "pmi/evaluation/results.json").read_text())["scores"]
    }
    assert list(found) == [0, 1]
    assert found[0].substrings.total() > 0
    estimate = found[0].per_completion()
    assert estimate.mean == pytest.approx(scores["base"]["markers"])
    assert estimate.error == pytest.approx(scores["base"]["markers_interval"]["standard_error"])
    assert found[0].per_1000_tokens() == pytest.approx(scores["base"]["markers_per_1000_tokens"])


def test_the_runs_own_markers_are_told_beside_the_others_and_in_no_total(runs, tmp_path):
    before = tally_markers(runs / "pmi", "evaluation", KIMS)[0]
    config = yaml.safe_load((runs / "pmi/config.yaml").read_text())
    (runs / "pmi/config.yaml").write_text(yaml.safe_dump({**config, "markers": ["try"]}))
    asked = runs / "pmi/evaluation/countdown/asked.json"
    asked.write_text(json.dumps({**json.loads(asked.read_text()), "markers": ["not so"]}))
    row = json.loads((runs / "pmi/metrics.jsonl").read_text())
    row["marker_counts"]["word"]["by_marker"]["try"] = 77
    (runs / "pmi/metrics.jsonl").write_text(json.dumps(row) + "\n")
    text = words_of(report([runs / "pmi"], tmp_path))
    drawn = list(
        csv.DictReader((tmp_path / "report_files/markers-evaluation-distribution.csv").open())
    )
    texts = [
        json.loads(line)["text"].lower()
        for line in (runs / "pmi/evaluation/countdown/base/samples.jsonl").open()
    ]
    (own,) = [
        row
        for row in drawn
        if (row["panel"], row["series"], row["category"]) == ("As substrings", "base", "try")
    ]
    assert float(own["value"]) == sum(text.count("try") for text in texts) / 4 > 0
    assert f"pmi, base 4 {before.tokens:,} {before.substrings.total():,}" in text
    assert "Of the runs' own, and in no total: try, not so." in text
    assert "try 0 · 77" in text


def test_samples_outside_what_was_last_asked_are_not_counted(runs):
    file = runs / "pmi/evaluation/countdown/asked.json"
    asked = json.loads(file.read_text())
    file.write_text(json.dumps({**asked, "questions": asked["questions"][:3]}))
    assert [
        tally.completions for tally in tally_markers(runs / "pmi", "evaluation", KIMS).values()
    ] == [3, 3]


def test_the_page_shows_what_differs_and_completions_of_both(whole, arms):
    _, page = whole
    text = words_of(page)
    assert "target.kind pmi teacher" in text
    assert "target.clip 10.0 –" in text
    assert "standard, step 1" in text
    asked = json.loads((arms / "pmi/evaluation/countdown/problems.json").read_text())
    assert next(iter(asked.values())) in text
    assert (
        page.count('<div class="answer">') == 9
    )  # three questions: base, and a last checkpoint of each arm
    assert 'class="missing"' not in page


def test_the_settings_that_differ_are_all_named(arms, tmp_path):
    table = setting_differences(read_runs([arms / "pmi", arms / "standard"]))
    assert [row[0] for row in table.rows] == [
        "target.kind",
        "target.beta",
        "target.clip",
        "target.center_rows",
    ]


def test_the_table_marks_what_evaluation_calls_significant(arms):
    accuracy = {0: 0.5, 1: 0.55, 2: 1.0, 3: 0.0}
    scores = {
        step: {"accuracy": value, "interval": None, "partial": step == 3}
        for step, value in accuracy.items()
    }
    own = frozenset({"own"})
    differences = {
        (1, own): Difference(0.05, 0.05, significant=False),
        (2, own): Difference(0.5, 0.1, significant=True),
        (3, own): Difference(-0.5, 0.1, significant=True),
    }
    run = read_runs([arms / "pmi"])[0]
    table = table_1([replace(run, scores={"own": scores}, differences=differences)])
    assert table.rows == [
        ["base", "50.0"],
        ["pmi, step 1", "55.0"],
        ["pmi, step 2", "▲ 100.0"],
        ["pmi, step 3", "▼ 0.0 PARTIAL"],
    ]


def test_differences_are_those_that_evaluation_wrote_down(arms):
    """One rule of significance: the report computes none of its own."""
    run = read_runs([arms / "pmi"])[0]
    written = json.loads((arms / "pmi" / "evaluation" / "results.json").read_text())
    (row,) = written["differences_to_base"]
    assert run.difference_to_base(1, ["countdown"]) == Difference(
        row["value"], row["standard_error"], row["significant"]
    )
    assert run.difference_to_base(0, ["countdown"]) is None
    assert run.difference_to_base(1, ["countdown", "aime25"]) is None


def test_a_decomposition_on_the_way_is_drawn_where_there_is_one(arms):
    run = read_runs([arms / "pmi"])[0]
    assert not decomposition([run]).measured
    rows = [*run.metrics, {"step": 2, "decomposition": {"cos_ref": 0.8, "norm_fraction_it": 0.7}}]
    panels = decomposition([replace(run, metrics=rows)]).panels
    assert [list(panel.curves[0].points) for panel in panels] == [
        [(2, 0.8, None)],
        [],
        [],
        [(2, 0.7, None)],
    ]


MISSING = {
    "evaluation": "pmi has no evaluation yet: purified-opsd evaluate ",
    "diagnosis": "pmi has no diagnosis yet: purified-opsd diagnose ",
    "metrics.jsonl": "pmi has no training step yet: purified-opsd resume ",
}


@pytest.mark.parametrize("part", list(MISSING))
def test_a_part_that_is_not_there_is_missing_and_no_other(runs, part):
    remove(runs / "pmi" / part)
    record = read_runs([runs / "pmi"])
    found = {
        source: {"pmi": tally_markers(runs / "pmi", source, KIMS)}
        for source in ("evaluation", "diagnosis")
    }
    missing = {item.what for section in sections(record, found, KIMS) for item in section.missing}
    assert missing == {MISSING[part].removeprefix("pmi ").split(":")[0]}


def cut(run, candidate, count):
    """Leaves of a candidate's completions the first few, as a kill does before results.json knows
    of them.
    """
    folder = run / "evaluation/countdown" / candidate
    for name in ("samples.jsonl", "grades.jsonl"):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:count]))


def test_an_evaluation_in_flight_is_said_to_be_partial_wherever_it_shows(runs, tmp_path):
    run = runs / "pmi"
    (run / "evaluation/results.json").write_text(
        '{"partial": true, "scores": [], "differences_to_base": []}'
    )
    cut(run, "step-000001", 1)
    text = words_of(report([run], tmp_path))
    assert "pmi has an incomplete evaluation, 5 of 8 completions" in text
    assert "has no evaluation yet" not in text
    assert "PARTIAL: pmi, step 1 (1 of 4 completions)." in text
    assert "pmi, step 1 1 of 4 PARTIAL" in text
    assert text.count("PARTIAL × ") == 1  # the card's markers
    assert (
        "(PARTIAL: step 1 has not answered yet)" not in text
    )  # where it has, and elsewhere only the base is shown
    base, after = tally_markers(run, "evaluation", KIMS).values()
    (key,) = after.by_question
    assert after.ratio_to(base) == after.by_question[key][0] / base.by_question[key][0]
    assert f"× {after.ratio_to(base):.2f} on the questions that both answered, evaluation" in text
    cut(run, "step-000001", 0)
    assert "pmi has an incomplete evaluation, 4 of 8 completions" in words_of(
        report([run], tmp_path)
    )


def test_scores_of_a_part_are_said_to_be_partial(runs, tmp_path):
    file = runs / "pmi/evaluation/results.json"
    results = json.loads(file.read_text())
    file.write_text(
        json.dumps(
            {
                **results,
                "scores": [
                    {**row, "partial": row["candidate"] != "base"} for row in results["scores"]
                ],
            }
        )
    )
    text = words_of(report([runs / "pmi"], tmp_path))
    assert re.search(r"Accuracy, % \(countdown\) [^→]*[0-9] → [^→]* PARTIAL", text)
    assert text.count("PARTIAL: pmi, step 1 on countdown.") == 2  # accuracy, lengths


def test_a_run_of_which_nothing_was_measured(runs, tmp_path):
    for name in (
        "evaluation",
        "diagnosis",
        "checkpoints",
        "rollouts",
        "metrics.jsonl",
        "environment.json",
    ):
        remove(runs / "pmi" / name)
    (runs / "pmi/checkpoints/step-mine").mkdir(parents=True)
    (runs / "pmi/checkpoints/step-mine/manifest.json").write_text("{}")
    (tmp_path / "report_files").mkdir()
    for name in ("accuracy.svg", "accuracy.csv", "notes.txt"):
        (tmp_path / "report_files" / name).touch()
    page = report([runs / "pmi"], tmp_path)
    text = words_of(page)
    for said in MISSING.values():
        assert said + str(runs / "pmi") in text
    assert text.count("not measured") == 5  # a card's five numbers
    assert "checkpoints none" in text
    assert "steps taken 0 of 1" in text
    assert "<svg" not in page
    assert {file.name for file in (tmp_path / "report_files").iterdir()} == {
        "notes.txt"
    }  # the figures of another report are gone
    remove(runs / "pmi" / "data.json")
    with pytest.raises(
        RunError, match=r"data.json is missing, .* Copy it from where the run was made"
    ):
        report([runs / "pmi"], tmp_path)


def test_microscopes_beyond_the_limit_are_linked(runs, tmp_path, monkeypatch):
    for arm in ("pmi", "standard"):
        file = runs / arm / "microscope/base/000.json"
        file.parent.mkdir(parents=True)
        write_completion(file, trajectory("base"))
    monkeypatch.setattr("purified_opsd.reporting.report.MOST_EMBEDDED", 1.5 * file.stat().st_size)
    page = report([runs / "pmi", runs / "standard"], tmp_path)
    assert page.count('class="data"') == 1
    assert '<a href="runs/standard/microscope.html">' in page
    assert "standard : too large for this page" in words_of(page)


def test_a_last_line_that_was_never_finished_is_left_out(runs, tmp_path):
    with (runs / "pmi/metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "loss": 0.')
    with (runs / "pmi/evaluation/countdown/base/samples.jsonl").open("a") as file:
        file.write('{"id": "countdown')
    run = read_runs([runs / "pmi"])[0]
    assert [row["step"] for row in run.metrics] == [1]
    assert tally_markers(runs / "pmi", "evaluation", KIMS)[0].completions == 4


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metrics.jsonl", "{]\n", r"metrics.jsonl:1 is damaged: it is no JSON"),
        ("metrics.jsonl", "3\n", r"metrics.jsonl:1 is damaged: it holds int, not an object"),
        ("metrics.jsonl", "{}\n", r"metrics.jsonl:1 is damaged: it has no `step`"),
        ("evaluation/results.json", "[]", r"results.json is damaged: it holds list, not an object"),
        ("evaluation/results.json", "{}", r"results.json is damaged: it has no `scores`"),
        (
            "evaluation/countdown/base/samples.jsonl",
            "{}\n",
            r"samples.jsonl:1 is damaged: it has no `id`",
        ),
        ("diagnosis/base.json", "{}", r"diagnosis/base.json is damaged: it has no `summary`"),
        (
            "diagnosis/step-x.json",
            '{"summary": {}}',
            r"`step-x` is neither `base` nor a checkpoint",
        ),
        ("environment.json", "{}", r"environment.json is damaged: it is no list of starts"),
        ("microscope/base/000.json", "{", r"microscope/base/000.json is damaged: it is no JSON"),
        (
            "microscope/base/000.json",
            "{}",
            r"microscope/base/000.json is damaged: it has no `id`",
        ),
        (
            "evaluation/results.json",
            "{",
            r"results.json is damaged: it is no JSON .*"
            r"make it again with the command that wrote it",
        ),
        ("config.yaml", "steps: [", r"config.yaml is damaged: it is no YAML"),
        ("config.yaml", "just a note", r"config.yaml holds no settings"),
        ("config.yaml", "steps: 2\n", r"config.yaml has no model section"),
    ],
)
def test_a_damaged_run_is_named_and_nothing_is_written(runs, tmp_path, file, content, said):
    (runs / "pmi" / file).parent.mkdir(parents=True, exist_ok=True)
    (runs / "pmi" / file).write_text(content)
    with pytest.raises(RunError, match=said):
        report([runs / "pmi"], tmp_path)
    assert {place.name for place in tmp_path.iterdir()} == {"runs"}


def test_a_report_needs_no_torch_and_ends_in_html(runs, tmp_path):
    for name in ("evaluation", "diagnosis", "metrics.jsonl"):
        remove(runs / "pmi" / name)
    words = ["report", str(runs / "pmi"), "--output", str(tmp_path / "page.html")]
    code = (
        "import sys; from purified_opsd.cli import app; "
        "app({words!r}, standalone_mode=False); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.format(words=words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout == f"Open {tmp_path / 'page.html'}. Its figures and their numbers are in "
        f"{tmp_path / 'page_files'}.\n"
    )


def test_bad_input_is_answered_and_leaves_nothing(command, runs, tmp_path):
    code, _, errors = command("report", runs / "pmi", "--output", "page.txt")
    assert code == 2
    assert "page.txt is no name of a page; nothing was written" in " ".join(errors.split())
    code, _, errors = command("report", runs / "pmi", runs)
    assert code == 2
    assert f"{runs} is no run directory: it has no config.yaml" in errors
    assert {place.name for place in tmp_path.iterdir()} == {"runs"}


def test_runs_of_one_name_are_told_apart_and_one_run_is_not_given_twice(arms, runs):
    names = [run.name for run in read_runs([arms / "pmi", runs / "pmi"])]
    assert names[1] == "runs/pmi"
    assert len(set(names)) == 2
    with pytest.raises(RunError, match="was given more than once"):
        read_runs([runs / "pmi", runs / "standard" / ".." / "pmi"])


def test_the_browser_may_run_the_scripts_of_the_microscope_and_no_other():
    assert "script-src 'none'" in content_policy([])
    policy = content_policy(["<script>alert(1)</script>"])
    assert (
        "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='" in policy
    )  # CSP level 3's own example
    assert "default-src 'none'" in policy


HOSTILE = (
    "</script><script>window.harmed = 1</script>"
    '<img src=x onerror="window.harmed = 2"></pre></style>'
    "<iframe src=http://127.0.0.1:9/></iframe>{{ 7 * 6 }}{% raw %} "
    "\x1b[31mred\x1b[0m \u202egnp.exe\u202c \ud800 \x00 wait $\\frac{1}$"
)
NAME = "=HYPERLINK(1)<img src=x onerror=window.harmed=3>$x$"


@pytest.fixture(scope="module")
def hostile(arms, tmp_path_factory):
    """A report whose every text was written by somebody who means harm."""
    tmp_path = tmp_path_factory.mktemp("hostile")
    runs = shutil.copytree(arms, tmp_path / "runs")
    run = (runs / "pmi").rename(runs / NAME)
    benchmark = run / "evaluation/countdown"
    for samples in benchmark.glob("*/samples.jsonl"):
        rows = [json.loads(line) for line in samples.read_text().splitlines()]
        samples.write_text("".join(json.dumps({**row, "text": HOSTILE}) + "\n" for row in rows))
    problems = json.loads((benchmark / "problems.json").read_text())
    (benchmark / "problems.json").write_text(json.dumps(dict.fromkeys(problems, HOSTILE)))
    results = json.loads((run / "evaluation/results.json").read_text())
    results["scores"] = [{**row, "benchmark": HOSTILE} for row in results["scores"]]
    (run / "evaluation/results.json").write_text(json.dumps(results))
    with (run / "config.yaml").open("a") as file:
        file.write(f"note: {json.dumps(HOSTILE)}\n")
    for name in ("evaluation", "diagnosis"):  # one arm has what the other lacks
        remove(runs / "standard" / name)
    write_report([run, runs / "standard"], tmp_path / "report.html", KIMS)
    return tmp_path


class Visit:
    """A page, and everything it asked for or complained of."""

    def __init__(self, browser, file, width, theme):
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(file.as_uri())
        self.page.evaluate(
            "document.querySelectorAll('details').forEach(details => details.open = true)"
        )

    def background(self):
        return self.page.evaluate("getComputedStyle(document.body).backgroundColor")

    def beyond_the_edge(self):
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


def test_hostile_text_is_shown_and_does_nothing(browser, hostile):
    backgrounds = set()
    for width, theme in ((400, "light"), (1600, "dark")):
        visit = Visit(browser, hostile / "report.html", width, theme)
        assert visit.page.evaluate("window.harmed") is None
        assert (
            visit.requests == [(hostile / "report.html").as_uri(), "data:,"][: len(visit.requests)]
        )
        assert visit.complaints == []
        assert visit.page.locator("img, iframe, script").count() == 0
        assert visit.beyond_the_edge() == 0
        backgrounds.add(visit.background())
        text = visit.page.locator(".answer pre").first.inner_text()
        assert text.startswith("</script><script>window.harmed = 1</script><img src=x")
        assert "{{ 7 * 6 }}" in text
        assert "␛[31mred␛[0m" in text
        assert "⟨U+202E⟩gnp.exe⟨U+202C⟩ ⟨U+D800⟩ ␀ wait" in text
        assert visit.page.locator(".answer pre mark").first.inner_text() == "wait"
        assert NAME in visit.page.title()
        assert visit.page.locator(".panel svg").count() > 20
        visit.page.close()
    assert len(backgrounds) == 2


def test_a_spreadsheet_takes_no_cell_for_a_formula(hostile):
    for file in (hostile / "report_files").glob("*.csv"):
        for row in csv.reader(file.open(newline="", encoding="utf-8")):
            assert not [
                cell
                for cell in row
                if cell[:1] in ("=", "+", "@", "\t") or (cell[:1] == "-" and not _number(cell))
            ], file
    assert "'=HYPERLINK(1)" in (hostile / "report_files/training.csv").read_text()


def _number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True
