"""The scores against independent truths: scipy, closed forms, double loops."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

import difftuning as dt
from difftuning.data import tasks
from difftuning.evaluation import metrics
from difftuning.evaluation.metrics import copied_share, evaluate, extract, frechet_distance, kernel_distance, precision_recall
from small import small_task


def draw(n: int, d: int = 8, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(n, d, generator=generator, dtype=torch.float64)


def pictures(n: int = 12, seed: int = 0, size: int = 32) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def coarse(images: Tensor) -> Tensor:
    """A feature space of sixteen patch means."""
    return torch.nn.functional.adaptive_avg_pool2d(images, 4).mean(1).flatten(1)


def frechet_by_scipy(a: Tensor, b: Tensor) -> float:
    a, b = a.numpy(), b.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


# Frechet distance


@pytest.mark.parametrize("seed", range(3))
def test_frechet_distance_agrees_with_scipys_matrix_square_root(seed):
    mix = draw(8, 8, seed + 10)
    a, b = draw(60, 8, seed) @ mix, draw(45, 8, seed + 5, shift=0.4) @ mix.T
    assert frechet_distance(a, b) == pytest.approx(frechet_by_scipy(a, b), rel=1e-8)


def test_frechet_distance_of_two_gaussians_has_its_closed_form():
    # whitened, so that mean and covariance are exact: N(0, I) against N(shift, diag(s^2))
    x = draw(200, 5)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    spread = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.1], dtype=torch.float64)
    expected = 5 * 0.7**2 + float((spread - 1).square().sum())
    assert frechet_distance(x, x * spread + 0.7) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_is_finite_and_right_where_covariances_are_rank_deficient():
    flat = torch.cat([draw(40, 3), torch.zeros(40, 5, dtype=torch.float64)], 1)  # rank 3 of 8
    few = draw(4, 8, 1)  # fewer images than features
    assert frechet_distance(flat, flat) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(flat, flat + 1) == pytest.approx(8)
    assert frechet_distance(few, few.flip(0)) == pytest.approx(0, abs=1e-12)
    line = torch.zeros(40, 8, dtype=torch.float64)
    line[:, 7] = draw(40, 1, 2)[:, 0]  # orthogonal to `flat`: the cross term vanishes
    expected = (flat.mean(0) - line.mean(0)).square().sum() + flat.var(0).sum() + line.var(0).sum()
    assert frechet_distance(flat, line) == pytest.approx(float(expected))


def test_frechet_distance_is_never_negative():
    a = draw(30, 8) * 1e4
    assert frechet_distance(a, a[torch.randperm(30, generator=torch.Generator().manual_seed(0))]) >= 0


# Kernel distance


def test_kernel_distance_agrees_with_a_double_loop(monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK", 7)
    a, b = draw(17, 5), draw(23, 5, 1, shift=0.3)

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 5 + 1) ** 3

    among_a = np.mean([kernel(a[i], a[j]) for i in range(17) for j in range(17) if i != j])
    among_b = np.mean([kernel(b[i], b[j]) for i in range(23) for j in range(23) if i != j])
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(among_a + among_b - 2 * between, rel=1e-10)


def test_kernel_distance_is_unbiased():
    values = torch.tensor([kernel_distance(draw(20, 4, 2 * s), draw(30, 4, 2 * s + 1)) for s in range(1000)])
    standard_error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean())) < 3 * standard_error
    assert standard_error < 0.02
    assert (values < 0).any()


def test_kernel_distance_grows_with_the_shift():
    distances = [kernel_distance(draw(200), draw(200, seed=1, shift=shift)) for shift in (0.0, 0.5, 1.0)]
    assert distances[0] < distances[1] < distances[2]


# Precision and recall


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_agree_with_double_loops(k, monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK", 7)
    a, b = draw(25, 3, scale=0.7), draw(31, 3, 1)

    def share(points: Tensor, manifold: Tensor) -> float:
        radii = [sorted(float((x - y).norm()) for j, y in enumerate(manifold) if j != i)[k - 1] for i, x in enumerate(manifold)]
        return np.mean([any(float((p - x).norm()) <= r for x, r in zip(manifold, radii)) for p in points])

    assert precision_recall(a, b, k) == pytest.approx((share(a, b), share(b, a)))


def test_identical_sets_have_precision_and_recall_one_even_with_many_twins():
    a = draw(20).repeat(9, 1)  # more twins than k: every radius is 0
    assert precision_recall(a, a) == (1, 1)


def test_disjoint_sets_have_precision_and_recall_zero():
    assert precision_recall(draw(40), draw(40, seed=1, shift=100)) == (0, 0)


def test_a_collapsed_set_has_precision_without_recall():
    reference = draw(300, 4)
    precision, recall = precision_recall(0.1 * draw(300, 4, 1), reference)
    assert precision > 0.95 and recall < 0.2


# All of them


@pytest.mark.parametrize("score", [frechet_distance, kernel_distance, precision_recall])
def test_scores_do_not_depend_on_the_order(score):
    a, b = draw(50), draw(60, seed=1, shift=0.2)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
    assert score(a[order], b.flip(0)) == pytest.approx(score(a, b), rel=1e-9)


@pytest.mark.parametrize("score", [frechet_distance, kernel_distance])
def test_distances_are_symmetric(score):
    a, b = draw(50), draw(60, seed=1, shift=0.2)
    assert score(a, b) == pytest.approx(score(b, a), rel=1e-9)


@pytest.mark.parametrize("score", [frechet_distance, kernel_distance, precision_recall])
def test_scores_refuse_features_that_do_not_match_or_are_not_finite(score):
    with pytest.raises(ValueError, match=r"\(50, 8\) and \(50, 7\)"):
        score(draw(50, 8), draw(50, 7))
    broken = draw(50)
    broken[3, 2] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        score(broken, draw(50))


# evaluate


# Copies of training pictures


def test_copied_share_agrees_with_a_double_loop():
    training = pictures(6)
    mixed = 0.9 * training[:3] + 0.1 * pictures(3, seed=1)  # near copies
    images = torch.cat([mixed, pictures(4, seed=2), training[4:5]])
    copied = 0
    for image in images:
        first, second = sorted(float((image - other).double().square().sum().sqrt()) for other in training)[:2]
        copied += first < second / 3
    assert copied == 4  # the three near copies and the exact one
    assert copied_share(images, training) == copied / len(images)


def test_copies_need_a_second_picture_to_compare_with():
    with pytest.raises(ValueError, match="different training pictures, got 1"):
        copied_share(pictures(2), pictures(1))


def test_a_copy_is_a_copy_though_the_original_stands_twice_in_the_set():
    training = pictures(6)
    images = torch.cat([training[:2], 0.9 * training[2:3] + 0.1 * pictures(1, seed=1), pictures(3, seed=2)])
    assert copied_share(images, training) == copied_share(images, torch.cat([training, training[1:4], training[:2]])) == 3 / 6
    with pytest.raises(ValueError, match="second nearest of different training pictures, got 1"):
        copied_share(images, training[:1].repeat(3, 1, 1, 1))


def test_copies_are_counted_in_every_precision_and_not_among_what_is_no_number():
    training = pictures(6)
    assert copied_share(training[:2].bfloat16(), training) == copied_share(training[:2], training.bfloat16()) == 1
    for given in ((training * torch.nan, training), (training, training * torch.nan)):
        with pytest.raises(ValueError, match="6 of 6 (images|training pictures) hold NaN or infinity"):
            copied_share(*given)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_images_and_reference_may_have_any_precision(dtype, monkeypatch):
    monkeypatch.setattr(metrics, "_extractor", lambda name, device: coarse)
    grey = pictures(12).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    expected = evaluate(grey.to(dtype).float(), grey.to(dtype).float())
    assert evaluate(grey.to(dtype), grey.to(dtype)) == pytest.approx(expected)


def test_a_name_in_place_of_pictures_is_told_how_to_load_them():
    with pytest.raises(TypeError, match="^reference images must be a tensor .*, got str: a task's are its .images$"):
        evaluate(pictures(), "digits", features=coarse)


def test_evaluate_returns_the_scores_of_its_pieces_and_names_the_space():
    images, reference = pictures(12), pictures(9, 1) * 0.8
    scores = evaluate(images, reference, features=coarse)
    a, b = coarse(images).double(), coarse(reference).double()
    assert scores == {
        "fid": pytest.approx(frechet_distance(a, b)), "kid": pytest.approx(kernel_distance(a, b)),
        "precision": precision_recall(a, b)[0], "recall": precision_recall(a, b)[1],
        "features": "coarse", "n": 12, "n_reference": 9,
    }  # fmt: skip
    assert all(type(value) in (float, int, str) for value in scores.values())  # goes into a CSV as it is


def test_evaluate_takes_a_task_for_a_reference():
    images, reference = pictures(12), pictures(12, 1)
    task = types.SimpleNamespace(images=reference)
    assert evaluate(images, task, features=coarse) == evaluate(images, reference, features=coarse)
    assert evaluate(task, images, features=coarse) == evaluate(reference, images, features=coarse)


def test_a_tasks_pictures_are_read_a_few_at_a_time_and_remembered_by_its_fingerprint(monkeypatch):
    both, read = [small_task(size=600, side=32, seed=seed) for seed in (0, 1)], []
    expected = evaluate(both[0].images, both[1].images)
    monkeypatch.setattr(metrics, "_references", type(metrics._references)())
    watched = [replace(task, reader=lambda places, reader=task.reader: read.append(len(places)) or reader(places)) for task in both]
    monkeypatch.setattr(tasks, "READ_ALL_LIMIT", 0)  # as a whole it may not be read
    assert evaluate(*watched, device="cpu") == expected
    assert max(read) == 256
    read.clear()
    evaluate(both[0].read(range(9)), watched[1])
    assert read == [256], "features are remembered; the first pictures show whether it has colours"


def test_precision_and_recall_compare_no_more_pairs_than_fit(monkeypatch):
    images, reference = pictures(40), pictures(30, 1)
    monkeypatch.setattr(metrics, "MANIFOLD", 20)
    found = evaluate(images, reference, features=coarse)
    few = evaluate(images[[int(39 * k / 19) for k in range(20)]], reference[[int(29 * k / 19) for k in range(20)]], features=coarse)
    assert (found["precision"], found["recall"]) == (few["precision"], few["recall"]) and found["n"] == 40
    assert found["fid"] == frechet_distance(extract(images, coarse), extract(reference, coarse))


def test_a_module_names_its_space_by_its_class():
    class PatchMeans(torch.nn.Module):
        def forward(self, images):
            return coarse(images)

    assert evaluate(pictures(), pictures(), features=PatchMeans())["features"] == "PatchMeans"


def test_extract_does_not_depend_on_the_batch_size():
    images = pictures(11)
    found = extract(images, coarse)
    assert found.dtype == torch.float64 and found.shape == (11, 16)
    assert torch.allclose(extract(images, coarse, batch_size=4), found, atol=1e-6)


def test_reference_features_are_computed_once_for_each_content(monkeypatch):
    asked = []
    monkeypatch.setattr(metrics, "_references", type(metrics._references)())
    monkeypatch.setattr(metrics, "_extractor", lambda name, device: lambda images: (asked.append(len(images)), coarse(images))[1])
    reference = pictures(9, 1)
    grey = reference.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    first = evaluate(grey[:7], grey)
    assert asked == [7, 9]
    assert evaluate(grey[:7], grey.clone()) == first
    assert asked == [7, 9, 7]
    evaluate(grey[:7], grey * 0.5)  # other content
    assert asked == [7, 9, 7, 7, 9]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (torch.zeros(0, 3, 32, 32), "there are no images"),
        (torch.zeros(8, 32, 32), r"\(N, 3, H, W\), got \(8, 32, 32\)"),
        (torch.zeros(8, 1, 32, 32), r"got \(8, 1, 32, 32\)"),
        (torch.zeros(8, 3, 32, 32, dtype=torch.uint8), "divide 8-bit images by 127.5"),
        (torch.full((8, 3, 32, 32), 1.02), r"\[-1, 1\], got 1.02..1.02"),
        (torch.full((8, 3, 32, 32), float("nan")), "8 of 8 images hold NaN"),
        (torch.zeros(5, 3, 32, 32), "scores need 6 images or more on either side, got 5 and a reference of 12"),
        (torch.zeros(8, 3, 64, 64), "images are 64x64 but the reference is 32x32"),
    ],
)
def test_evaluate_refuses_what_it_cannot_score(broken, message):
    with pytest.raises(ValueError, match=message):
        evaluate(broken, pictures(), features=coarse)


def test_evaluate_checks_the_reference_too():
    with pytest.raises(ValueError, match="6 images or more on either side, got 12 and a reference of 4"):
        evaluate(pictures(), pictures(4), features=coarse)
    with pytest.raises(ValueError, match="reference images must lie in"):
        evaluate(pictures(), 255 * pictures(), features=coarse)


def test_rounding_just_outside_the_range_is_clamped():
    assert evaluate(pictures() * 1.005, pictures(), features=lambda x: coarse(x) if x.abs().max() <= 1 else None)["n"] == 12


def test_an_unknown_space_and_a_bad_function_are_named():
    with pytest.raises(ValueError, match="unknown feature space 'clip': choose \"tiny\""):
        evaluate(pictures(), pictures(), features="clip")
    with pytest.raises(ValueError, match=r"features are \(N, D\) .* got \(12, 3, 32, 32\)"):
        evaluate(pictures(), pictures(), features=lambda images: images)
    with pytest.raises(ValueError, match="features must be finite"):
        evaluate(pictures(), pictures(), features=lambda images: coarse(images) / 0)


def test_inception_without_torch_fidelity_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    metrics._extractor.cache_clear()
    with pytest.raises(ImportError, match=r"pip install .difftuning\[paper\]"):
        evaluate(pictures(), pictures(), features="inception")


def test_inception_gets_8_bit_images_and_the_given_weights(monkeypatch):
    """Against a stand-in with torch-fidelity's signature; the real one runs in tests/paper_scale."""

    class FeatureExtractorInceptionV3(torch.nn.Module):
        def __init__(self, name, features_list, feature_extractor_weights_path=None):
            super().__init__()
            assert features_list == ["2048"] and feature_extractor_weights_path == "/some/where.pth"

        def forward(self, images):
            assert images.dtype == torch.uint8
            return (coarse(images.float()),)

    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = FeatureExtractorInceptionV3
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    metrics._extractor.cache_clear()
    eight_bit = torch.arange(256).view(1, 1, 16, 16).expand(6, 3, -1, -1)
    found = extract(eight_bit / 127.5 - 1, "inception:/some/where.pth")
    assert torch.equal(found, coarse(eight_bit.float()).double())  # every grey level survives the round trip
    metrics._extractor.cache_clear()


def test_the_tiny_space_warns_that_it_does_not_see_colour(monkeypatch):
    monkeypatch.setattr(metrics, "_extractor", lambda name, device: coarse)
    with pytest.warns(UserWarning, match="brightness only"):
        evaluate(pictures(), pictures(9, 1))


def test_a_set_of_shoes_half_of_them_mirrored_is_far_from_the_shoes_there_are():
    """What mirroring in training cost the tiny world's version 1 (data/results/README.md)."""
    shoes, reference = dt.load_task("footwear").images, dt.load_task("footwear", split="validation")
    half = torch.cat([shoes[::2], shoes[1::2].flip(-1)])
    assert evaluate(half, reference)["fid"] > 10 * evaluate(shoes, reference)["fid"]
