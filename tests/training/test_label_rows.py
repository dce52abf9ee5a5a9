"""A task's classes take free rows of the label table where they suffice, start near the null row, and keep their names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from difftuning.sampling import label_rows, sample
from difftuning.training.fine_tuned import load_fine_tuned
from difftuning.training.label_rows import add_rows, choose_rows
from small import SOURCE_NAMES, small_task
from tests.training.helpers import PLAIN, tune


def test_new_rows_start_near_the_null_row_and_others_are_left(pretrained):
    denoiser = pretrained.copy_denoiser()
    add_rows(denoiser, pretrained, torch.tensor([5, 6, 7]), seed=0)
    old, new = pretrained.denoiser.label_table, denoiser.label_table
    untouched = [0, 1, 2, 3, 4, 8, 9, 10, 11, 12]
    assert torch.equal(new[untouched], old[untouched])
    distance = (new[5:8] - old[12]).norm(dim=1) / (old[:5].std() * 32**0.5)
    assert bool(((distance > 0.05) & (distance < 0.2)).all())
    assert not torch.equal(new[5], new[6])


def test_rows_that_have_a_class_keep_their_start(pretrained):
    denoiser = pretrained.copy_denoiser()
    add_rows(denoiser, pretrained, torch.tensor([0, 1, 2]), seed=0)
    assert torch.equal(denoiser.label_table, pretrained.denoiser.label_table)


def test_source_rows_do_not_move_where_the_task_has_rows_of_its_own(pretrained, tuned):
    old, new = pretrained.denoiser.label_table, tuned.model.denoiser.label_table
    assert torch.equal(new[:5], old[:5]) and torch.equal(new[8:12], old[8:12])
    assert not torch.equal(new[12], old[12])  # the null row is trained
    assert tuned.rows.tolist() == [5, 6, 7]
    assert tuned.model.label_names == [*SOURCE_NAMES, "shape 0", "shape 1", "shape 2"]
    assert tuned.model.first_free_label == 8


@pytest.mark.parametrize("choice, classes, rows", [
    ("auto", 7, range(5, 12)), ("auto", 8, range(8)), ("first", 3, range(3)), ("free", 7, range(5, 12)), ("auto", 12, range(12)),
])  # fmt: skip
def test_rows_are_free_ones_where_they_suffice_else_the_first(pretrained, choice, classes, rows):
    assert choose_rows(pretrained, classes, choice).tolist() == list(rows)


@pytest.mark.parametrize(
    "choice, classes, message",
    [
        ("free", 8, "8 classes need as many label rows, small has 7 free ones"),
        ("auto", 13, "13 classes need as many label rows, small has 12 in all"),
    ],
)
def test_too_many_classes_are_an_error(pretrained, choice, classes, message):
    with pytest.raises(ValueError, match=message):
        choose_rows(pretrained, classes, choice)


def test_forced_first_rows_take_the_source_names_places(pretrained, task, tmp_path):
    result = tune(pretrained, task, None, tmp_path, steps=1, label_rows="first")
    assert result.rows.tolist() == [0, 1, 2] and result.model.first_free_label == 5
    assert result.model.label_names == ["shape 0", "shape 1", "shape 2", "dot", "hook"]


def test_fine_tuning_goes_on_from_a_fine_tuned_model(pretrained, task, bank, tuned, tmp_path):
    other = small_task(classes=2, seed=1)
    again = tune(tuned.model, other, None, tmp_path / "again", steps=1)
    assert again.rows.tolist() == [8, 9] and again.model.first_free_label == 10
    # The second task's "shape 0" is another label than the first one's, and both can be asked for by name.
    assert again.model.label_names[5:] == ["shape 0", "shape 1", "shape 2", "shape 0 (shapes)", "shape 1 (shapes)"]
    assert torch.equal(again.model.denoiser.label_table[:8], tuned.model.denoiser.label_table[:8])
    third = tune(again.model, other, None, tmp_path / "third", steps=1)
    assert third.model.label_names[-2:] == ["shape 0 (shapes 2)", "shape 1 (shapes 2)"]
    with pytest.raises(ValueError, match="was sampled from another model"):
        tune(tuned.model, other, bank, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_class_named_as_one_of_the_source_has_a_name_of_its_own_that_draws_it(pretrained, task, tmp_path):
    """Of the source are "ring" and "cross"; the task's "ring" is another."""
    named = replace(task, class_names=["ring", "shape 1", "cross"])
    with pytest.warns(UserWarning, match=r"has a class 'ring' already, so that of shapes is called 'ring \(shapes\)' \(and 1 more\)"):
        tuned = tune(pretrained, named, None, tmp_path, steps=1)
    assert tuned.model.label_names == [*SOURCE_NAMES, "ring (shapes)", "shape 1", "cross (shapes)"]
    rows = {"ring (shapes)": 5, "shape 1": 6, "cross (shapes)": 7, "ring": 0, "cross": 1}
    for name, row in rows.items():
        assert torch.equal(sample(tuned.model, [name], steps=2), sample(tuned.model, [row], steps=2)), name
    assert len({tuple(sample(tuned.model, [name], steps=2).flatten().tolist()) for name in rows}) == len(rows)
    opened = load_fine_tuned(tmp_path).model
    assert torch.equal(sample(opened, ["ring (shapes)"], steps=2), sample(tuned.model, [5], steps=2))


def test_accents_are_one_whichever_form_they_are_written_in(pretrained, task, tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    source = pretrained.with_denoiser(pretrained.copy_denoiser(), label_names=[decomposed, *SOURCE_NAMES[1:]])
    assert label_rows(source, [composed, decomposed, "bar"]).tolist() == [0, 0, 2]
    tuned = tune(source, replace(task, class_names=[decomposed, "th\u00e9", "mate"]), None, tmp_path, steps=1)
    assert tuned.model.label_names[5:] == [f"{composed} (shapes)", "th\u00e9", "mate"]
    assert label_rows(tuned.model, [f"{decomposed} (shapes)", "the\u0301", composed]).tolist() == [5, 6, 0]


def test_names_stand_at_their_rows_where_rows_before_them_have_none(pretrained, task, tmp_path):
    gap = pretrained.with_denoiser(pretrained.copy_denoiser(), label_names=["a", "b"], first_free_label=7)
    tuned = tune(gap, task, None, tmp_path, **PLAIN)
    assert tuned.rows.tolist() == [7, 8, 9]
    assert [tuned.model.label_names[row] for row in tuned.rows] == task.class_names and tuned.model.label_names[:3] == ["a", "b", "row 2"]
