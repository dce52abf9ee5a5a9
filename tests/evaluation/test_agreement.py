"""Agreement against independent truths: loops, sets, closed forms, scikit-image; the step of sudden convergence on made-up curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import difftuning as dt
from difftuning.data.conditions import KINDS
from difftuning.evaluation.agreement import (
    condition_agreement,
    depth_rmse,
    normal_angle,
    scale_agreement,
    steepest_step,
    sudden_convergence_step,
)
from small import shapes


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def grey(pictures: Tensor) -> Tensor:
    """(N, H, W) as condition pictures (N, 3, H, W)."""
    return pictures.float()[:, None].repeat(1, 3, 1, 1)


def drawn(n: int = 6) -> Tensor:
    return grey(shapes(n)[0] / 127.5 - 1)


# all kinds


@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_agrees_with_itself_perfectly(kind):
    asked = dt.annotate(kind, drawn())
    agreement = condition_agreement(kind, asked, asked)
    assert agreement.shape == (6,) and agreement.dtype == torch.float64
    assert torch.allclose(agreement, torch.ones(6, dtype=torch.float64), atol=1e-9)
    assert condition_agreement(kind, asked[:0], asked[:0]).shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_the_more_a_picture_is_disturbed_the_less_its_condition_agrees(kind):
    images = drawn(12)
    asked = dt.annotate(kind, images)
    noise = draw(*images[:, :1].shape) - 0.5
    found = [dt.annotate(kind, (images + amount * noise).clamp(-1, 1)) for amount in (0, 0.6, 1.6, 8)]
    means = [float(condition_agreement(kind, asked, each).mean()) for each in found]
    assert means == sorted(means, reverse=True) and means[0] - means[-1] > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_each_picture_is_compared_with_its_own_condition_either_way_round(kind):
    asked, found = dt.annotate(kind, drawn(6)), dt.annotate(kind, drawn(6).roll(1, 0))
    agreement = condition_agreement(kind, asked, found)
    one_by_one = [condition_agreement(kind, a[None], b[None]) for a, b in zip(asked, found)]
    assert torch.allclose(agreement, torch.cat(one_by_one)) and agreement.max() - agreement.min() > 1e-3
    assert torch.allclose(agreement, condition_agreement(kind, found, asked))


# edges


def f1_by_loops(asked: np.ndarray, found: np.ndarray, reach: int) -> float:
    def share_near(points: np.ndarray, others: np.ndarray) -> float:
        near = [any(max(abs(y - v), abs(x - u)) <= reach for v, u in others) for y, x in points]
        return sum(near) / len(near)

    recall, precision = share_near(np.argwhere(asked), np.argwhere(found)), share_near(np.argwhere(found), np.argwhere(asked))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize(("size", "reach"), [((32, 32), 1), ((20, 24), 1), ((64, 70), 2), ((96, 96), 3)])
def test_edge_agreement_is_f1_within_a_pixel_for_each_32_of_the_side(size, reach):
    asked, found = (draw(3, *size, seed=seed) > 0.98 for seed in (0, 1))
    expected = [f1_by_loops(a.numpy(), b.numpy(), reach) for a, b in zip(asked, found)]
    assert min(expected) > 0.05 and max(expected) < 0.95
    assert np.allclose(condition_agreement("edge", grey(asked), grey(found)), expected)


@pytest.mark.parametrize(("shift", "agreement"), [(0, 1), (1, 1), (2, 0)])
def test_an_edge_may_be_one_pixel_off(shift, agreement):
    asked = torch.zeros(1, 32, 32)
    asked[:, 4:28, 10] = 1
    assert condition_agreement("edge", grey(asked), grey(asked.roll(shift, 2))).item() == agreement


def test_no_edges_agree_with_no_edges_alone():
    none, some = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    some[..., 10] = 1
    pairs = [(none, none), (none, some), (some, none)]
    assert [condition_agreement("edge", *pair).item() for pair in pairs] == [1, 0, 0]


# sketch


@pytest.mark.parametrize("size", [(32, 32), (40, 53)])
def test_sketch_agreement_is_the_ssim_of_scikit_image(size):
    from skimage.metrics import structural_similarity

    asked, noise = draw(3, *size) ** 8, draw(3, *size, seed=1) ** 8  # mostly dark, as line drawings are
    found = torch.stack([(1 - share) * a + share * n for share, a, n in zip((0.1, 0.5, 1.0), asked, noise)])
    expected = [
        structural_similarity(
            a.double().numpy(), b.double().numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
        )
        for a, b in zip(asked, found)
    ]
    assert np.allclose(condition_agreement("sketch", grey(asked), grey(found)), expected, atol=1e-5)


# segmentation


def test_segmentation_agreement_is_the_mean_iou_of_the_colours_in_either_picture():
    levels = torch.tensor([0, 128, 255, 7]) / 255
    asked, found = levels[torch.randint(3, (4, 16, 16))], levels[torch.randint(4, (4, 16, 16))]
    found[0] = asked[0]
    found[1, :, :8] = asked[1, :, :8]
    expected = []
    for a, b in zip(asked, found):
        regions = [{value: {(y, x) for y, x in np.argwhere(p.numpy() == value)} for value in np.unique(p)} for p in (a, b)]
        colours = set(regions[0]) | set(regions[1])
        expected.append(
            np.mean(
                [
                    len(regions[0].get(c, set()) & regions[1].get(c, set())) / len(regions[0].get(c, set()) | regions[1].get(c, set()))
                    for c in colours
                ]
            )
        )
    assert expected[0] == 1 and expected[1] > expected[2]
    assert np.allclose(condition_agreement("segmentation", grey(asked), grey(found)), expected)


def test_colours_of_one_brightness_are_two_regions():
    red, green = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    red[:, 0], green[:, 1] = 1, 1
    assert condition_agreement("segmentation", red, green).item() == 0
    half = red.clone()
    half[..., :8] = green[..., :8]
    assert condition_agreement("segmentation", red, half).item() == pytest.approx((0.5 + 0) / 2)


# depth and normals


def test_depth_agreement_is_one_less_the_root_mean_squared_difference():
    asked, found = draw(3, 16, 16), draw(3, 16, 16, seed=1)
    rmse = np.sqrt(((asked.double() - found.double()).numpy() ** 2).mean((1, 2)))
    assert np.allclose(depth_rmse(grey(asked), grey(found)), rmse) and rmse.min() > 0.1
    assert np.allclose(condition_agreement("depth", grey(asked), grey(found)), 1 - rmse)


def normals_at(degrees: float) -> Tensor:
    """A slope of that angle, to the right."""
    n = torch.tensor([math.sin(math.radians(degrees)), 0, math.cos(math.radians(degrees))])
    return ((n + 1) / 2).reshape(1, 3, 1, 1).expand(1, 3, 16, 16)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 0.01), (10, 40), (-90, 90), (30, 75)])
def test_normal_agreement_falls_with_the_angle_in_degrees(first, second):
    a, b = normals_at(first).double(), normals_at(second).double()
    assert normal_angle(a, b).item() == pytest.approx(second - first, abs=1e-4)
    assert condition_agreement("normal", a, b).item() == pytest.approx(1 - (second - first) / 180, abs=1e-6)


def test_the_angle_is_the_mean_over_the_picture():
    asked = normals_at(0).clone()
    found = asked.clone()
    found[..., :4] = normals_at(60)[..., :4]
    assert normal_angle(asked, found).item() == pytest.approx(15, abs=1e-3)


# bad input

GOOD = torch.zeros(2, 3, 16, 16)


@pytest.mark.parametrize(
    ("kind", "asked", "found", "message"),
    [
        ("canny", GOOD, GOOD, "unknown condition 'canny': choose one of edge, sketch"),
        ("edge", GOOD[0], GOOD, r"asked must have shape \(N, 3, H, W\), got \(3, 16, 16\)"),
        ("edge", GOOD, GOOD[:, :1], r"found must have shape \(N, 3, H, W\), got \(2, 1, 16, 16\)"),
        ("edge", GOOD, GOOD[:1], r"asked is \(2, 3, 16, 16\) but found is \(1, 3, 16, 16\)"),
        ("edge", GOOD - 1, GOOD, r"asked must lie in \[0, 1\], got -1..-1: give what annotate\(\) finds"),
        ("edge", GOOD, GOOD + 255, r"found must lie in \[0, 1\], got 255..255"),
        ("edge", GOOD, GOOD.byte(), "found must be float in .0, 1., got torch.uint8: divide 8-bit pictures by 255"),
        ("edge", GOOD.log(), GOOD, "asked holds NaN or infinity"),
        ("sketch", GOOD[..., :10], GOOD[..., :10], r"windows of 11 pixels, got \(2, 3, 16, 10\): enlarge"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(kind, asked, found, message):
    with pytest.raises(ValueError, match=message) as caught:
        condition_agreement(kind, asked, found)
    assert "\n" not in str(caught.value)


# scale


def test_on_the_common_scale_the_base_is_at_0_and_real_pictures_at_1():
    base, real = torch.tensor([0.2, 0.4]), torch.tensor([0.8, 1.0])
    scaled = scale_agreement(torch.tensor([0.3, 0.9, 0.6, 0.0]), base=base, real=real)
    assert torch.allclose(scaled, torch.tensor([0, 1, 0.5, -0.5], dtype=torch.float64), atol=1e-6)
    with pytest.raises(ValueError, match=r"real pictures agree no better \(0.3\) than the unconditioned base \(0.9\)"):
        scale_agreement(base, base=real, real=base)


# steps

STEPS = list(range(0, 2000, 100))  # twenty checks


def jump(at: int, *, low: float = 0.1, high: float = 0.9) -> list[float]:
    return [high if step >= at else low for step in STEPS]


def noisy(at: int, seed: int) -> list[float]:
    return (np.array(jump(at)) + np.random.default_rng(seed).normal(0, 0.1, len(STEPS))).tolist()


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("at", [500, 700, 1000])
def test_a_clean_jump_is_dated_to_its_first_high_score_by_both_views(at, k):
    assert sudden_convergence_step(STEPS, jump(at), threshold=0.5, k=k) == at
    assert steepest_step(STEPS, jump(at), k=k) == at


@pytest.mark.parametrize("seed", range(10))
def test_a_noisy_jump_is_dated_to_it_within_a_check(seed):
    assert abs(sudden_convergence_step(STEPS, noisy(900, seed), threshold=0.5) - 900) <= 100
    assert abs(steepest_step(STEPS, noisy(900, seed)) - 900) <= 100


def test_a_curve_that_never_rises_has_no_such_step():
    for flat in ([0.2] * 20, jump(900, low=0.9, high=0.1)):
        assert steepest_step(STEPS, flat) is None
    assert sudden_convergence_step(STEPS, [0.2] * 20, threshold=0.5) is None
    assert sudden_convergence_step(STEPS, [0.5] * 20, threshold=0.5) is None, "at the threshold is not above it"
    assert sudden_convergence_step([], [], threshold=0.5) is None


def test_a_peak_shorter_than_k_checks_does_not_count():
    scores = jump(1500)
    scores[4] = scores[5] = 0.9
    assert [sudden_convergence_step(STEPS, scores, threshold=0.5, k=k) for k in (1, 2, 3)] == [400, 400, 1500]
    assert steepest_step(STEPS, scores) == 1500
    assert sudden_convergence_step(STEPS, jump(1700), threshold=0.5) == 1700, "the last three checks"
    assert sudden_convergence_step(STEPS, jump(1800), threshold=0.5) is None, "only two checks are left"


def test_a_fall_after_the_jump_leaves_the_step_as_it_is():
    scores = [0.9 if 600 <= step < 1200 else 0.1 for step in STEPS]
    assert sudden_convergence_step(STEPS, scores, threshold=0.5) == 600
    assert steepest_step(STEPS, scores) == 600


def test_the_slope_is_by_step_and_not_by_check():
    steps = [0, 10, 20, 30, 40, 1040, 2040]
    scores = [0.0, 0.0, 0.0, 0.2, 0.2, 0.8, 0.8]
    assert steepest_step(steps, scores, k=1) == 30
    assert steepest_step(list(range(7)), scores, k=1) == 5


def test_steps_and_scores_may_be_tensors_and_a_step_comes_back_as_a_number():
    found = sudden_convergence_step(torch.tensor(STEPS), torch.tensor(jump(300)), threshold=0.5)
    assert found == 300 and type(found) is int
    assert type(steepest_step(torch.tensor(STEPS), torch.tensor(jump(300)))) is int


@pytest.mark.parametrize("find", [lambda *curve, **k: sudden_convergence_step(*curve, threshold=0.5, **k), steepest_step])
@pytest.mark.parametrize(
    ("steps", "scores", "options", "message"),
    [
        ([0, 1], [0.5], {}, r"one score for each of 2 steps, got scores of shape \(1,\)"),
        ([0, 2, 1], [0, 0, 0], {}, r"steps must rise, got \[0, 2, 1\]"),
        ([0, 100], [0.1, math.nan], {}, "the score at step 100 is NaN: leave that check out"),
        ([0, 1], [0, 0], {"k": 0}, "k is a number of checks, at least 1, got 0"),
        ([0, 1], [0, 0], {"k": 1.5}, "k must be a whole number, got 1.5"),
    ],
)
def test_what_is_no_curve_is_refused(find, steps, scores, options, message):
    with pytest.raises(ValueError, match=message):
        find(steps, scores, **options)


def test_a_slope_needs_enough_checks_and_a_threshold_is_a_number():
    with pytest.raises(ValueError, match="a slope over k = 3 checks on either side needs 6 of them, got 5"):
        steepest_step(range(5), [0, 0, 0, 1, 1])
    with pytest.raises(ValueError, match="threshold is NaN"):
        sudden_convergence_step([0], [0], threshold=math.nan)
