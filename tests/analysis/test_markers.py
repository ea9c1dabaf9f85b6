from purified_opsd.analysis.markers import MARKERS, count_substrings, count_words, marker_counts

TEXT = "Wait, let me check. Checking... Hmm, it seems likely (unlikely?) that we MIGHT wait."


def test_substrings_are_counted_inside_words_too():
    counts = count_substrings([TEXT])
    assert {k: v for k, v in counts.items() if v} == {
        "wait": 2,
        "check": 2,
        "hmm": 1,
        "seems": 1,
        "likely": 2,
        "might": 1,
    }
    assert counts == {
        marker: TEXT.lower().count(marker) for marker in MARKERS
    }  # Kim et al.'s own line


def test_words_are_counted_whole():
    counts = count_words([TEXT])
    assert {k: v for k, v in counts.items() if v} == {
        "wait": 2,
        "check": 1,
        "hmm": 1,
        "seems": 1,
        "likely": 1,
        "might": 1,
    }


def test_counts_add_up_over_texts_and_know_every_marker():
    assert count_substrings([TEXT, TEXT])["wait"] == 4
    assert set(count_substrings([])) == set(count_words([])) == set(MARKERS)


def test_markers_of_ones_own():
    assert count_words(["Let me think. let me think"], ["Let me think"]) == {"Let me think": 2}
    assert count_substrings(["Let me think"], ["Let me think"]) == {"Let me think": 1}
    assert count_words(["rethink: think?!"], ["think", "?!"]) == {"think": 1, "?!": 1}


def test_a_marker_inside_another_counts_for_both():
    assert count_words(["let me check"], ["check", "let me check"]) == {
        "check": 1,
        "let me check": 1,
    }


def test_own_markers_are_counted_and_stay_out_of_the_totals():
    found = marker_counts([TEXT, "Hmm. So be it."], tokens=250, own=["let me check"])
    substring = found["substring"]
    assert (substring["total"], substring["per_response"], substring["per_1000_tokens"]) == (
        10,
        5.0,
        40.0,
    )
    assert set(substring["by_marker"]) == {*MARKERS, "let me check"}
    assert (substring["by_marker"]["let me check"], substring["by_marker"]["hmm"]) == (1, 2)
    assert found["word"]["total"] == 8
    assert marker_counts([], 0)["word"]["per_1000_tokens"] == 0
