"""Labels are rows of the model's table, or names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import difftuning as dt
from difftuning.sampling import label_rows


def test_labels_are_rows_or_names(small_model):
    options = {"steps": 2, "seed": 1}
    by_row = dt.sample(small_model, torch.tensor([4, 0]), **options)
    for labels in ([4, 0], (4, 0), np.array([4, 0]), ["hook", "ring"], torch.tensor([4, 0], dtype=torch.int32)):
        assert torch.equal(dt.sample(small_model, labels, **options), by_row)
    assert float((dt.sample(small_model, ["ring", "hook"], **options) - by_row).abs().max()) > 1e-3


def test_every_row_is_a_label_the_null_row_included(small_model):
    rows = label_rows(small_model, [0, 999, 1000])
    assert rows.tolist() == [0, 999, 1000]
    assert rows.dtype == torch.int64


def test_one_label_alone_is_one_picture(small_model):
    for label in ("cross", 1, np.int64(1)):
        assert label_rows(small_model, label).tolist() == [1]
    assert label_rows(small_model, ["cross", 2]).tolist() == [1, 2]


@pytest.mark.parametrize("labels, message", [
    ([0, -1], r"label -1 is outside 0..1000 \(the null label\)"),
    ([0, 1001], "label 1001 is outside 0..1000"),
    (["ring", "cat"], "unknown label 'cat': this model's 5 names .label_names. are ring, cross, bar, dot, hook$"),
    (["cros"], "hook; did you mean 'cross'"),
    ([0.0], "labels are whole numbers or names, got 0.0"),
    ([True], "labels are whole numbers or names, got True"),
    (None, "labels are whole numbers or names, one for each picture, got None"),
    ([[0], [1]], r"labels are one for each picture, \(N,\), got shape \(2, 1\)"),
])  # fmt: skip
def test_what_is_no_label_is_named(small_model, labels, message):
    with pytest.raises(ValueError, match=message):
        dt.sample(small_model, labels)
