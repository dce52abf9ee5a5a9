"""The memory bank's lesson: its measures against brute force, its table against a rebuilt part, its exercises against the real loop."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from difftuning.config import DiffTuningConfig
from difftuning.data.tasks import load_source
from difftuning.lessons.bank import coverage as measure
from difftuning.lessons.bank import lesson
from difftuning.lessons.bank.figures import class_rows, coverage_figure
from difftuning.lessons.exercises import grade
from difftuning.lessons.parts import RUNS, Parts
from difftuning.models.loading import load_pretrained
from difftuning.support.world import data_folder
from difftuning.training.fine_tune import split_batch, training_streams
from difftuning.training.label_rows import choose_rows
from difftuning.training.memory_bank import MemoryBank
from small import small_bank, small_pretrained, small_task

TABLE = data_folder() / "results" / measure.TABLE


@pytest.fixture(scope="module")
def reference():
    return measure.equal_shares(load_source(), per_class=1)[0]


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(size, 5, generator=generator, dtype=torch.float64) for size in (30, 40)]


# The measures -------------------------------------------------------------------------------


def test_coverage_counts_the_source_balls_that_hold_a_picture(features):
    bank, source = (points.numpy() for points in features)
    expected = []
    for i, point in enumerate(source):
        others = sorted(np.linalg.norm(source[j] - point) for j in range(len(source)) if j != i)
        expected.append(min(np.linalg.norm(picture - point) for picture in bank) <= others[2])
    assert 0 < sum(expected) < len(expected)
    assert measure.covered(*features, k=3).tolist() == expected


def test_a_larger_bank_never_covers_less(features):
    bank, source = features
    smaller, larger = measure.covered(bank[:10], source), measure.covered(bank, source)
    assert bool((larger >= smaller).all()) and larger.sum() > smaller.sum()


def test_the_source_covers_itself(features):
    assert measure.covered(features[1], features[1]).all()


def test_too_few_reference_points_are_refused(features):
    with pytest.raises(ValueError, match="5 reference points have no 5-th neighbour"):
        measure.covered(features[0], features[1][:5])


def test_every_beginning_of_equal_labels_has_equal_shares():
    labels = measure.equal_labels(7, 40, seed=0)
    assert labels.shape == (40,) and labels.tolist() != sorted(labels.tolist())
    for size in (1, 6, 7, 20, 40):
        counts = torch.bincount(labels[:size], minlength=7)
        assert int(counts.max() - counts.min()) <= 1


def test_reference_and_others_share_no_picture_and_have_equal_shares():
    source = load_source()
    reference, others = measure.equal_shares(source, per_class=3)
    counts = torch.bincount(reference.labels, minlength=len(source.class_names))
    assert counts.min() == counts.max() == 3
    where = {picture.numpy().tobytes() for picture in reference.images}
    assert not where & {picture.numpy().tobytes() for picture in others.images}
    beginning = torch.bincount(others.labels[: len(source.class_names)], minlength=len(source.class_names))
    assert beginning.max() == 1


@pytest.mark.parametrize("draw", [torch.rand, lambda *size, generator: torch.randn(*size, generator=generator) ** 3])
def test_points_of_the_references_own_distribution_cover_what_the_formula_says(draw):
    """Whichever distribution it is; the mean of 200 draws."""
    generator = torch.Generator().manual_seed(0)
    draws = [draw(2, 40, 3, generator=generator) for _ in range(200)]
    found = torch.tensor([float(measure.covered(ours[:15], reference, k=3).double().mean()) for ours, reference in draws])
    assert abs(found.mean() - measure.expected_coverage(15, 40, k=3)) < 4 * found.std() / len(found) ** 0.5


# The table ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_world():
    return load_pretrained("tiny"), measure.equal_shares(load_source())[0]


@pytest.mark.slow
def test_a_part_of_the_committed_table_is_rebuilt(tiny_world):
    """The smallest banks of three steps."""
    if not TABLE.is_file():
        pytest.skip(f"{TABLE.name} has not been built yet: python -m difftuning.lessons.bank.coverage")
    table = measure.load_table()
    rebuilt = measure.bank_coverage(*tiny_world, sizes=[125], steps=[3], guidances=[1.0, 1.5])
    keys = ["world", "model", "seed", "steps", "guidance", "size"]
    both = rebuilt.astype({"world": str, "model": str}).merge(
        table.astype({"world": str, "model": str}), on=keys, suffixes=("", "_kept"), how="left"
    )
    assert both.fid_kept.notna().all(), "the table is of another model: rebuild it"
    for name in measure.MEASURES:  # another processor may move a picture over the edge of a ball
        assert np.allclose(both[name], both[f"{name}_kept"], atol=0.025), both[[name, f"{name}_kept"]]
    assert np.allclose(both.fid, both.fid_kept, rtol=0.02) and np.allclose(both.kid, both.kid_kept, rtol=0.05, atol=0.01)


@pytest.mark.slow
def test_the_committed_table_is_whole():
    if not TABLE.is_file():
        pytest.skip(f"{TABLE.name} has not been built yet: python -m difftuning.lessons.bank.coverage")
    table = measure.load_table()
    expected = {(s, g, n) for s in measure.STEPS for g in measure.GUIDANCES for n in measure.SIZES}
    assert Counter(zip(table.steps, table.guidance, table["size"])) == Counter(expected)
    assert table.model.nunique() == 1 and table[list(measure.MEASURES)].notna().all(axis=None)


@pytest.mark.slow
def test_the_table_is_resumed_and_rows_of_another_model_do_not_stay(tiny_world, reference, tmp_path, monkeypatch):
    pretrained, _ = tiny_world
    path = tmp_path / "table.csv"
    options = {"sizes": [125], "guidances": [1.0]}
    measure.rebuild(pretrained, reference, path, steps=[1], **options)
    first = path.read_text()
    sampled = []
    real = MemoryBank.sample.__func__

    def spy(cls, *arguments, **keywords):
        sampled.append(keywords["steps"])
        return real(cls, *arguments, **keywords)

    monkeypatch.setattr(MemoryBank, "sample", classmethod(spy))
    measure.rebuild(pretrained, reference, path, steps=[1, 2], **options)
    assert sampled == [2] and path.read_text().startswith(first)
    stranger = pretrained.with_denoiser(pretrained.copy_denoiser())
    with torch.no_grad():
        stranger.denoiser.label_table.add_(0.01)
    measure.rebuild(stranger, reference, path, steps=[1], **options)
    assert sampled == [2, 1] and len(path.read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_small_bank_of_the_table_is_the_beginning_of_a_large_one(tiny_world, reference):
    pretrained, _ = tiny_world
    both = measure.bank_coverage(pretrained, reference, [125, 250], [1], [1.0]).set_index("size")
    alone = measure.bank_coverage(pretrained, reference, [125], [1], [1.0]).set_index("size")
    for name in (*measure.MEASURES, "fid", "kid"):
        assert both[name][125] == alone[name][125]


@pytest.mark.parametrize("sizes", [[100], [125, 130], []])
def test_sizes_that_no_shards_end_at_are_refused(sizes, reference):
    with pytest.raises(ValueError, match="sizes must be multiples of 125"):
        measure.bank_coverage(small_pretrained(), reference, sizes, [1], [1.0])


# What the lesson shows ----------------------------------------------------------------------


def made_table():
    """Four banks whose measures are plain functions of what was chosen."""
    return pd.DataFrame(
        [
            {"size": n, "steps": s, "guidance": g, "coverage": n / 1000 + g / 10, "fid": 100 / n / s / g}
            for n in (125, 250) for s in (3, 6) for g in (1.0, 1.5)
        ]
    )  # fmt: skip


def test_coverage_is_drawn_at_the_most_steps_and_the_distance_of_the_largest_banks():
    real = pd.DataFrame({"size": [125, 250], "coverage": [0.3, 0.5], "fid": [0.6, 0.01]})
    figure = coverage_figure(made_table(), real, {125: 0.2, 250: 0.3})
    left, right = ([line.get_xydata().round(6).tolist() for line in axis.lines] for axis in figure.axes)
    assert left == [[[125, 0.225], [250, 0.35]], [[125, 0.275], [250, 0.4]], [[125, 0.3], [250, 0.5]], [[125, 0.2], [250, 0.3]]]
    assert right[:2] == [[[3, 0.133333], [6, 0.066667]], [[3, 0.088889], [6, 0.044444]]] and right[2][0][1] == 0.01
    assert "goes from 0.28 with 125 to 0.40 with 250 pictures" in figure.get_label()


def test_a_bank_picture_stands_above_a_source_picture_of_its_class():
    pretrained, source = load_pretrained("tiny"), load_source()
    bank = MemoryBank.load(data_folder() / "bank")
    rows, names = lesson.pictures_of("letter", pretrained, bank, source, count=3)
    assert len(names) == len(set(names)) == 3 and {lesson.kinds_of(source)[name] for name in names} == {"letter"}
    first = bank.labels.tolist().index(pretrained.label_names.index(names[0]))
    torch.testing.assert_close(rows["bank"][:1], pretrained.decode(bank.latents[first : first + 1]), atol=1e-4, rtol=0)
    of_class = source.read(source.labels == source.class_names.index(names[1]))
    assert torch.equal(rows["source"][1], of_class[0])


def test_rows_of_classes_have_one_size_however_few_there_are():
    few, many = (class_rows({"bank": torch.zeros(n, 3, 8, 8), "source": torch.ones(n, 3, 8, 8)}, ["ring"] * n) for n in (2, 10))
    assert few.get_size_inches().tolist() == many.get_size_inches().tolist()
    sheet = few.axes[0].images[0].get_array()
    assert (
        sheet.shape == (20, 100, 3) and sheet[5, 5].tolist() == [0.5] * 3 and sheet[15, 15].tolist() == [1.0] * 3 == sheet[5, 25].tolist()
    )
    assert few.get_label() == "Pictures of the classes ring, ring, in rows: bank, source."


def made_losses(ratios):
    """Held-out source losses after / before, at the data end and elsewhere, of methods with these ratios there."""
    rows = [
        {"task": task, "data": "source", "method": method, "seed": 0, "tenth": tenth, "before": 0.5,
         "after": 0.5 * (ratio if tenth < 4 else 1 / ratio)}
        for task in RUNS for method, ratio in ratios.items() for tenth in range(1, 11)
    ]  # fmt: skip
    return Parts(pd.DataFrame(), pd.DataFrame(rows))


@pytest.mark.parametrize(
    "null, own, words", [(1.2, 1.1, "their own labels"), (1.1, 1.2, "the null label"), (1.2, 1.21, "neither: there is hardly a difference")]
)
def test_the_answer_about_labels_is_read_from_the_data_end(null, own, words):
    assert lesson.labels_in_words(made_losses({"Diff-Tuning": null, "Diff-Tuning, own labels": own})) == words


def test_the_bank_that_protects_least_leaves_the_highest_loss():
    assert lesson.least_in_words(made_losses({"bank of 100": 1.2, "bank of far classes": 1.4, "bank of noise": 1.3})) == "far classes only"


# The exercises ------------------------------------------------------------------------------

RIGHT = {
    "bank labels": lambda sampled, null: torch.full_like(sampled, null),
    "bank visits": lambda size, batch, share, steps: steps * int(batch * share) / size,
    "equal shares": lambda classes, size: torch.arange(size) % classes,
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_answer_passes_and_an_empty_one_is_told_so(name):
    assert grade(name, RIGHT[name]).message == "exact"
    for empty in (None, ...):
        graded = grade(name, lambda *_, empty=empty: empty)
        assert not graded.passed and "not written yet" in graded.message


@pytest.mark.parametrize(
    "name, answer, hint",
    [
        ("bank labels", lambda sampled, null: torch.full_like(sampled, 1000), "with null label 337: "),
        ("bank labels", lambda sampled, null: sampled, "sampled under"),
        ("bank visits", lambda size, batch, share, steps: steps * batch * share / size, "rounded down"),
        (
            "bank visits",
            lambda size, batch, share, steps: steps * batch / size,
            r"4 of 4 are wrong; visits\([\d., ]+\) is \d+.*, it should be ",
        ),
        (
            "equal shares",
            lambda classes, size: torch.arange(size).clamp(max=classes - 1),
            r"of 20 pictures, class 4 has 16 and class 0 has 1",
        ),
        ("equal shares", lambda classes, size: torch.arange(size) % classes + 1, "label 5 is none of 5 classes"),
        ("equal shares", lambda classes, size: torch.arange(classes), r"the shape is \(5,\), it should be \(20,\)"),
    ],
    ids=[
        "one null label for all models",
        "own labels",
        "parts of pictures",
        "no share",
        "one class for the rest",
        "labels from 1",
        "each class once",
    ],
)
def test_a_wrong_answer_gets_a_hint(name, answer, hint):
    graded = grade(name, answer)
    assert not graded.passed
    assert re.search(hint, graded.message), graded.message


def test_the_exercises_ask_for_what_training_does(tmp_path):
    """Labels and visits counted on the very streams that the loop draws from."""
    pretrained, task = small_pretrained(), small_task()
    bank = small_bank(pretrained, tmp_path)  # 20 pictures
    config = DiffTuningConfig(steps=50, batch_size=32, bank_share=0.2)
    _, stream = training_streams(pretrained, task, bank, config, choose_rows(pretrained, 3), split_batch(config, bank))
    assert torch.equal(stream.labels, RIGHT["bank labels"](bank.labels, pretrained.null_label))
    places = {picture.numpy().tobytes(): n for n, picture in enumerate(bank.latents)}
    drawn = Counter(places[picture.numpy().tobytes()] for step in range(50) for picture in stream.draw(0, step).x_0)
    expected = RIGHT["bank visits"](len(bank), 32, 0.2, 50)
    assert sum(drawn.values()) / len(bank) == expected == 15
    assert max(drawn.values()) - min(drawn.values()) <= 1
