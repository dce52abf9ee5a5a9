"""The memory bank's lesson: its measures against brute force, its table against a rebuilt part, its exercises against the real loop."""

from __future__ import annotations

import re
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from difftuning.config import DiffTuningConfig
from difftuning.data.tasks import load_source
from difftuning.evaluation.metrics import extract
from difftuning.lessons.bank import coverage as measure
from difftuning.lessons.bank import predictions
from difftuning.lessons.bank.figures import VARIED, class_page, coverage_explorer, coverage_slices, kind_bars, shard_states
from difftuning.lessons.exercises import grade
from difftuning.lessons.explorers import explore
from difftuning.models.loading import load_pretrained
from difftuning.support.world import data_folder
from difftuning.training.fine_tune import split_batch, training_streams
from difftuning.training.label_rows import choose_rows
from difftuning.training.memory_bank import MemoryBank, repair_bank
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


def test_a_larger_bank_never_covers_less_and_its_own_balls_never_grow(features):
    bank, source = features
    smaller, larger = measure.covered(bank[:10], source), measure.covered(bank, source)
    assert bool((larger >= smaller).all()) and larger.sum() > smaller.sum()
    assert bool((measure.ball_radii(bank)[:10] <= measure.ball_radii(bank[:10])).all())


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


@pytest.mark.parametrize("law", [torch.rand, lambda *size, generator: torch.randn(*size, generator=generator) ** 3])
def test_points_of_the_references_own_law_cover_what_the_formula_says(law):
    """Whichever law it is; the mean of 200 draws."""
    generator = torch.Generator().manual_seed(0)
    draws = [law(2, 40, 3, generator=generator) for _ in range(200)]
    found = torch.tensor([float(measure.covered(ours[:15], reference, k=3).double().mean()) for ours, reference in draws])
    assert abs(found.mean() - measure.expected_coverage(15, 40, k=3)) < 4 * found.std() / len(found) ** 0.5


def test_coverage_by_kind_averages_to_the_coverage(reference):
    points = extract(reference.images)[::3]
    by_kind = measure.coverage_by_kind({"bank": points}, reference)
    assert list(by_kind.index) == ["photograph", "icon", "letter"]
    shares = pd.Series(reference.kinds).value_counts(normalize=True)
    overall = float(measure.covered(points, extract(reference.images)).double().mean())
    assert float((by_kind["bank"] * shares).sum()) == pytest.approx(overall)


# The table ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_world():
    return load_pretrained("tiny"), measure.equal_shares(load_source())[0]


@pytest.mark.slow
def test_a_part_of_the_committed_table_is_rebuilt(tiny_world):
    """The smallest banks of three steps: everything but the seconds."""
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
    assert (both.bytes == both.bytes_kept).all()


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
    for name in (*measure.MEASURES, "fid", "kid", "bytes"):
        assert both[name][125] == alone[name][125]
    assert 0 < both.seconds[125] < both.seconds[250]


@pytest.mark.parametrize("sizes", [[100], [125, 130], []])
def test_sizes_that_no_shards_end_at_are_refused(sizes, reference):
    with pytest.raises(ValueError, match="sizes must be multiples of 125"):
        measure.bank_coverage(small_pretrained(), reference, sizes, [1], [1.0])


def made_table():
    """Eight banks whose measures are plain functions of what was chosen."""
    rows = [
        {"size": n, "steps": s, "guidance": g, "coverage": n / 1000 + g / 10, "recall": 0.9 - g / 10, "precision": 0.5 + g / 10,
         "fid": 100 / n / g, "seconds": n * s * (1 if g == 1 else 2) / 1000}
        for n in (125, 250) for s in (3, 6) for g in (1.0, 1.5)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_predictions_are_counted_over_neighbouring_pairs():
    found = predictions.tested_predictions(made_table())
    expected = {
        "coverage grows with size": (4, 4),
        "recall grows with size": (0, 4),
        "precision grows with guidance": (4, 4),
        "recall falls with guidance": (4, 4),
        "coverage falls with guidance": (0, 4),
        "last doubling of steps: coverage within 0.03": (4, 4),
        "last doubling of steps: Frechet within 5 %": (4, 4),
        "the time grows with size": (4, 4),
        "the time grows with steps": (4, 4),
        "guidance other than 1: 1.5 to 2.5 times the time": (4, 4),
    }
    assert {name: (row.held, row.of) for name, row in found.iterrows()} == expected
    assert found["mean change"]["coverage grows with size"] == pytest.approx(0.125)
    assert found["mean change"]["guidance other than 1: 1.5 to 2.5 times the time"] == pytest.approx(1)  # twice: once more
    assert found.verdict["recall grows with size"] == "failed" and found.verdict["coverage grows with size"] == "held"
    assert found.ties["recall grows with size"] == 4 and found.ties.drop("recall grows with size").sum() == 0


def test_time_at_any_guidance_is_set_beside_that_at_1_and_the_last_doubling_alone():
    """Three guidances: 1 -> 1.5 and 1 -> 3 are pairs, 1.5 -> 3 is none."""
    rows = [
        {"size": n, "steps": s, "guidance": g, "coverage": {3: 0.1, 6: 0.5, 12: 0.51}[s], "recall": 0.9, "precision": 0.9,
         "fid": 1.0, "seconds": n * g}
        for n in (125, 250) for s in (3, 6, 12) for g in (1.0, 2.0, 4.0)
    ]  # fmt: skip
    found = predictions.tested_predictions(pd.DataFrame(rows))
    slow = found.loc["guidance other than 1: 1.5 to 2.5 times the time"]
    assert (slow.held, slow.of, slow["mean change"]) == (6, 12, pytest.approx(2)) and slow.verdict == "mixed"
    last = found.loc["last doubling of steps: coverage within 0.03"]
    assert (last.held, last.of, last["mean change"]) == (6, 6, pytest.approx(0.01))


@pytest.mark.parametrize(
    "held, word",
    [(0, "failed"), (1, "mostly failed"), (15, "mostly failed"), (16, "mixed"), (29, "mixed"), (30, "mostly held"), (45, "held")],
)
def test_the_verdict_says_mixed_only_of_what_is(held, word):
    assert predictions.verdict(held, 45) == word


def test_the_same_mix_has_as_many_of_each_kind_in_both():
    ours = ["icon", None, "letter", "icon", "icon", "icon", "letter"]
    theirs = ["letter", "icon", "icon", "photograph", "icon", "letter", "letter"]
    assert measure.same_mix(ours, theirs) == ([0, 2, 3, 4, 6], [0, 1, 2, 4, 5])
    assert measure.same_mix(ours, theirs, part=0.34) == ([0, 2], [0, 1])  # one of three icons, one of two letters


# The figures --------------------------------------------------------------------------------


def test_slices_pass_through_the_table_and_stars_stand_on_the_live_bank():
    live = {"size": 125, "steps": 6, "guidance": 1.5, "precision": 0.61, "recall": 0.71, "coverage": 0.31, "fid": 0.9, "seconds": 2.0}
    axes = np.array(coverage_slices(made_table(), size=125, steps=3, guidance=1.5, live=live).axes).reshape(4, 3)
    lines = [line.get_xydata().tolist() for line in axes[1, 0].lines]
    assert [[125, 0.65], [250, 0.65]] in [np.round(line, 6).tolist() for line in lines]  # precision at three steps, guidance 1.5
    stars = [
        [[line.get_xydata().tolist() for line in axis.lines if line.get_marker() == "*" and len(line.get_xdata())] for axis in row]
        for row in axes
    ]
    assert [star for row in stars for star in sorted(row[1])][:4] == [[[6, 0.31]], [[6, 0.61]], [[6, 0.71]], [[6, 0.9]]]
    assert all(row[0] == row[2] == [] for row in stars)


def test_slices_show_real_pictures_at_the_size_that_is_held_and_say_what_is_to_be_seen():
    real = pd.DataFrame({"size": [125, 250], "precision": 0.9, "recall": 0.9, "coverage": [0.3, 0.5], "fid": [0.6, 0.4]})
    figure = coverage_slices(made_table(), size=250, steps=3, guidance=1.0, real=real)
    axes = np.array(figure.axes).reshape(4, 3)
    dashed = [
        [line.get_xydata().tolist() for line in axis.lines if line.get_linestyle() == "--" and len(line.get_xdata())] for axis in axes[2]
    ]
    assert dashed == [[[[125, 0.6], [250, 0.4]]], [[[3, 0.4], [6, 0.4]]], [[[1, 0.4], [1.5, 0.4]]]]
    assert (
        "from 125 to 250 pictures in the bank coverage goes from 0.23 to 0.35 and the Frechet distance from 0.8 to 0.4"
        in figure.get_label()
    )


def test_every_slider_step_shows_another_picture_at_once():
    box = explore(coverage_explorer(made_table()), size=125, steps=3, guidance=1.0)
    *controls, view = box.children
    assert [control.description for control in controls] == list(VARIED)
    for control in controls:
        before, begun = bytes(view.value), time.perf_counter()
        control.index = 1
        assert time.perf_counter() - begun < 0.05
        assert bytes(view.value) != before and bytes(view.value).startswith(b"\x89PNG")


def test_a_page_shows_each_class_in_its_column():
    white, grey = torch.ones(1, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    figure = class_page(["ring", "bar"], {"bank": [white, grey], "source": [torch.empty(0, 3, 8, 8), white]})
    bank, source = (axis.images[0].get_array() for axis in figure.axes)
    assert bank.shape == (20, 20, 3) and source.shape == (10, 20, 3)
    assert bank[5, 15].tolist() == [0.5] * 3 and bank[15, 15].tolist() == [0.5] * 3 and bank[15, 5].tolist() == [1.0] * 3
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["ring", "bar"]


def test_pages_are_of_one_size_however_few_pictures_they_have():
    few, many = (class_page(["ring"], {"bank": [torch.ones(n, 3, 8, 8)]}, heights=[3]) for n in (1, 3))
    assert few.get_size_inches().tolist() == many.get_size_inches().tolist()
    assert few.axes[0].images[0].get_array().shape == many.axes[0].images[0].get_array().shape == (30, 10, 3)


@pytest.mark.parametrize(
    "figure",
    [
        class_page(["ring"], {"bank": [torch.zeros(1, 3, 8, 8)]}),
        shard_states({"stopped": ["sampled", "missing"], "resumed": ["sampled", "sampled later"]}),
        kind_bars(pd.DataFrame({"bank": [0.2, 0.4]}, index=["icon", "letter"]), balls={"icon": 20, "letter": 5}),
        coverage_slices(made_table(), size=125, steps=3, guidance=1.0),
    ],
    ids=["page", "shards", "kinds", "slices"],
)
def test_figures_carry_alt_text(figure):
    assert len(figure.get_label()) > 15 and figure.get_label().encode("latin-1", "replace") in figure._repr_png_()


# The exercises ------------------------------------------------------------------------------

RIGHT = {
    "bank labels": lambda sampled, null: torch.full_like(sampled, null),
    "bank visits": lambda size, batch, share, steps: steps * int(batch * share) / size,
    "shards to sample again": lambda size, shard, damaged: len({place // shard for place in damaged}),
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
            "shards to sample again",
            lambda size, shard, damaged: len(damaged),
            r"shards\(1000, 250, \[3, 7, 249\]\) is 3, it should be 1",
        ),
    ],
    ids=["one null label for all models", "own labels", "parts of pictures", "no share", "pictures"],
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


def test_repair_samples_as_many_shards_as_the_exercise_says(tmp_path):
    pretrained = small_pretrained()
    bank = small_bank(pretrained, tmp_path)  # shards of 8, 8 and 4
    damaged = [1, 6, 17]
    for place in damaged:
        path = tmp_path / bank.recipe.shard_names[place // 8]
        content = bytearray(path.read_bytes())
        content[-1 - place % 8] ^= 1
        path.write_bytes(bytes(content))
    assert len(repair_bank(tmp_path, pretrained)) == RIGHT["shards to sample again"](len(bank), 8, damaged) == 2
    assert torch.equal(MemoryBank.load(tmp_path).latents, bank.latents)
