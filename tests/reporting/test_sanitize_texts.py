from purified_opsd.reporting.sanitize import cell, shortened


def test_a_cell_is_no_formula():
    assert [cell(text) for text in ("=1+1", " =1", "+1", "-1", "@x", "\t=1", "base")] == [
        "'=1+1", "' =1", "'+1", "'-1", "'@x", "⇥=1", "base",
    ]  # fmt: skip
    assert (cell(-1.5), cell(None), cell(3)) == (-1.5, None, 3)


def test_a_long_text_keeps_its_ends_and_tells_what_is_missing():
    assert shortened("a" * 8, 8) == "a" * 8
    assert (
        shortened("a" * 600 + "b" * 600, 400)
        == "a" * 300 + "\n[… 800 characters left out …]\n" + "b" * 100
    )
