"""Near-duplicates are found by correlation, and what is left out is named; against loops over pairs."""

import duplicates
import numpy as np
import pytest


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, between averages of 2x2 pixels."""
    small = [picture.astype(float).reshape(16, 2, 16, 2).mean((1, 3)).ravel() for picture in (one, other)]
    return float(np.corrcoef(*small)[0, 1])


@pytest.fixture(scope="module")
def pictures():
    """Five random pictures, each also brighter, and with ever more noise."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 150, (5, 32, 32))
    noisy = [base + rng.normal(0, spread, base.shape) for spread in (0, 30, 60, 90)]
    return np.concatenate([base, base + 40, *noisy]).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95, 0.999])
def test_resembling_is_correlating_above_the_threshold(pictures, monkeypatch, threshold):
    monkeypatch.setattr(duplicates, "BLOCK", 4)  # several blocks
    ours, others = pictures[:5], pictures[5:]
    expected = [any(correlation(one, other) > threshold for other in others) for one in ours]
    assert duplicates.resembles(ours, others, threshold).tolist() == expected
    assert duplicates.resembles(others, ours[:1], threshold).tolist() == [correlation(one, ours[0]) > threshold for one in others]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95, 0.999])
def test_of_pictures_that_resemble_each_other_the_first_stays(pictures, threshold):
    kept = []
    for i, picture in enumerate(pictures):
        if all(correlation(picture, pictures[k]) <= threshold for k in kept):
            kept.append(i)
    assert duplicates.distinct(pictures, threshold).tolist() == kept and 5 <= len(kept) < len(pictures)


def test_a_brighter_copy_is_the_same_picture_and_an_empty_set_resembles_nothing(pictures):
    assert duplicates.resembles(pictures[5:10], pictures[:5], 0.999).all()
    assert duplicates.resembles(pictures[:0], pictures, 0.5).shape == (0,)
    assert not duplicates.resembles(pictures, pictures[:0], 0.5).any()
    assert len(duplicates.distinct(pictures[:0], 0.5)) == 0


def test_what_is_left_out_is_counted_and_named(capsys):
    duplicates.report("logos", "pictures repeat an earlier one", np.array(["wolf", "axe", "wolf"]))
    duplicates.report("kana", "pictures repeat an earlier one", [])
    assert capsys.readouterr().out.splitlines() == [
        "logos: 3 pictures repeat an earlier one and are left out: axe, wolf (2)",
        "kana: 0 pictures repeat an earlier one and are left out",
    ]
