"""Counts in words."""

from __future__ import annotations

import pytest

from difftuning.lessons.numerals import numeral, out_of


@pytest.mark.parametrize(
    ("some", "every", "said"),
    [(5, 5, "all five sets"), (2, 5, "two of the five sets"), (0, 5, "none of the five sets"), (1, 1, "the one set")],
)  # fmt: skip
def test_a_share_is_said_in_words(some, every, said):
    assert out_of(some, every, "sets") == said


def test_beyond_ten_a_count_is_in_digits():
    assert [numeral(10), numeral(11), numeral(1200)] == ["ten", "11", "1,200"]
