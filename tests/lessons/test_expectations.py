"""Predictions beside what came: a table of sentences, shown whole."""

from __future__ import annotations

from difftuning.lessons.expectations import expectations_table, in_markdown


def test_a_prediction_is_right_wrong_or_not_run_yet():
    table = expectations_table({"this": (True, "so"), "that": (False, "not so"), "the third": (None, "not run yet")})
    assert table.right.to_dict() == {"this": "yes", "that": "no", "the third": "–"} and table.found["that"] == "not so"


def test_a_table_in_markdown_cuts_nothing():
    long = "a sentence that is longer than the fifty letters after which pandas cuts it off"
    lines = in_markdown(expectations_table({long: (True, long)})).splitlines()
    assert lines == ["|  | right | found |", "|---|---|---|", f"| {long} | yes | {long} |"]
