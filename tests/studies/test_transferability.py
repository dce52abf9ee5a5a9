import math

import pandas as pd
import pytest

from difftuning.studies.report import transferability_section
from difftuning.studies.transferability import index_against_gain
from tests.studies.helpers import table


def measured() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three sets with gains of 50, 0 and -100 percent at guidance 1 after 100 steps, and their indices."""
    plain = table()[lambda rows: rows.method == "plain"]
    sets = [("near", 0.5), ("middle", 1.0), ("far", 2.0)]
    runs = [plain.assign(set=name, method=method, fid=plain.fid * (1 if method == "plain" else times)) for name, times in sets
            for method in ("plain", "Diff-Tuning")]  # fmt: skip
    return pd.DataFrame({"set": ["near", "far", "middle"], "index": [0.0, 0.9, 0.2]}), pd.concat(runs)


def test_the_correlation_is_that_of_the_ranks():
    indices, runs = measured()
    found, correlation = index_against_gain(indices, runs, "Diff-Tuning", "1", 100)
    assert [(name, gain.lower) for name, _, gain in found] == [("near", pytest.approx(0.5)), ("far", pytest.approx(-1)), ("middle", 0)]
    assert correlation == pytest.approx(-1)


def test_a_set_without_runs_is_left_out_and_two_sets_have_no_correlation():
    indices, runs = measured()
    found, correlation = index_against_gain(indices, runs[runs.set != "far"], "Diff-Tuning", "1", 100)
    assert [name for name, *_ in found] == ["near", "middle"] and math.isnan(correlation)
    lines = transferability_section(indices, runs[runs.set != "far"].assign(guidance="1.5"), 100)
    assert "no correlation" in lines[1] and len([line for line in lines if line.startswith("|")]) == 4
