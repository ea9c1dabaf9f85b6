from purified_opsd.analysis.markers import MARKERS, count_substrings, count_words

TEXT = "Wait, let me check. Checking... Hmm, it seems likely (unlikely?) that we MIGHT wait."


def test_substrings_are_counted_inside_words_too():
    counts = count_substrings([TEXT])
    assert {k: v for k, v in counts.items() if v} == {"wait": 2, "check": 2, "hmm": 1, "seems": 1, "likely": 2, "might": 1}
    assert counts == {marker: TEXT.lower().count(marker) for marker in MARKERS}  # Kim et al.'s own line


def test_words_are_counted_whole():
    counts = count_words([TEXT])
    assert {k: v for k, v in counts.items() if v} == {"wait": 2, "check": 1, "hmm": 1, "seems": 1, "likely": 1, "might": 1}


def test_counts_add_up_over_texts_and_know_every_marker():
    assert count_substrings([TEXT, TEXT])["wait"] == 4
    assert set(count_substrings([])) == set(count_words([])) == set(MARKERS)


def test_markers_of_ones_own():
    assert count_words(["Let me think. let me think"], ["let me think"]) == {"let me think": 2}
