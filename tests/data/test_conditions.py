"""Condition pictures show what their kind promises, at any size, and are kept as latents are."""

from __future__ import annotations

import dataclasses
import math
import sys
import types

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from difftuning.data import annotator_models, annotators, conditions
from difftuning.data.annotator_models import class_colour
from difftuning.data.conditions import KINDS, annotate, annotate_task
from small import shapes, small_depth_annotator, small_task

MIDDLE_GREY = 128 / 255


def as_images(*greys: np.ndarray) -> Tensor:
    """Pictures (H, W) in [0, 1] as images (N, 3, H, W) in [-1, 1]."""
    return torch.tensor(np.stack(greys), dtype=torch.float32)[:, None].repeat(1, 3, 1, 1) * 2 - 1


def radii(side: int) -> np.ndarray:
    """Distance of each pixel from the picture's middle."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    return np.hypot(y, x)


def disc(side: int, radius: float, *, tone: float = 1.0, ground: float = 0.0) -> np.ndarray:
    """A disc in the middle; pixels on its outline are mixed by their share, nearly."""
    inside = np.clip(radius + 0.5 - radii(side), 0, 1)
    return ground + (tone - ground) * inside


def drawn(n: int = 6) -> Tensor:
    return as_images(*(shapes(n)[0].numpy() / 255))


def brute_force_distances(inside: np.ndarray) -> np.ndarray:
    """From each pixel of the object to the nearest pixel of the ground, by looking at all of them."""
    ground = np.argwhere(~inside)
    distances = np.zeros(inside.shape)
    for place in np.argwhere(inside):
        distances[tuple(place)] = np.sqrt(((ground - place) ** 2).sum(1)).min()
    return distances


# all kinds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (24, 40), (96, 96)])
def test_conditions_are_pictures_that_eight_bits_hold(kind, size):
    images = torch.nn.functional.interpolate(drawn(), size, mode="bilinear")
    found = annotate(kind, images)
    assert found.shape == images.shape and found.dtype == torch.float32
    assert torch.equal((found * 255).round() / 255, found) and found.min() >= 0 and found.max() <= 1
    assert torch.equal(found[:, :1].expand_as(found), found) == (kind != "normal")
    assert len(found.flatten(1).unique(dim=0)) == len(images.flatten(1).unique(dim=0)), "the condition tells the pictures apart"


@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_depends_on_its_own_picture_alone(kind):
    images = drawn()
    together = annotate(kind, images)
    assert torch.equal(together, torch.cat([annotate(kind, image[None]) for image in images]))
    assert annotate(kind, images[:0]).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("tone", [-1.0, 0.3, 1.0])
def test_of_an_empty_picture_all_is_ground(tone):
    images = torch.full((1, 3, 32, 32), tone)
    for kind in set(KINDS) - {"normal"}:
        assert annotate(kind, images).max() == 0, kind
    facing_the_viewer = torch.tensor([MIDDLE_GREY, MIDDLE_GREY, 1.0]).reshape(1, 3, 1, 1)
    assert torch.equal(annotate("normal", images), facing_the_viewer.expand_as(images))


def test_a_faint_speck_is_no_object_and_a_picture_without_ground_is_flat():
    speck, patch = np.zeros((32, 32)), np.zeros((32, 32))
    speck[16, 16], patch[14:20, 14:20] = 0.22, 0.22
    assert annotate("depth", as_images(speck)).max() == 0 and annotate("depth", as_images(patch)).max() == 1
    checkers = np.indices((32, 32)).sum(0) % 2  # all of it differs from the border's median
    assert annotators.object_mask(checkers.astype(float)).all()
    assert annotate("depth", as_images(checkers)).max() == 0


@pytest.mark.parametrize("kind", ["edge", "segmentation", "depth", "normal"])
def test_a_dark_object_on_bright_ground_counts_as_a_bright_one_on_dark_ground(kind):
    bright, dark = as_images(disc(32, 9)), as_images(disc(32, 9, tone=0.0, ground=1.0))
    assert (annotate(kind, dark) - annotate(kind, bright)).abs().max() <= 1 / 255


# edges


@pytest.mark.parametrize(("side", "radius"), [(32, 10), (64, 20), (256, 80)])
def test_edges_of_a_disc_are_its_circle(side, radius):
    found = annotate("edge", as_images(disc(side, radius)))[0, 0].numpy() > 0.5
    off = np.abs(radii(side)[found] - radius)
    assert off.max() <= 1.5
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = np.stack([np.sin(angles), np.cos(angles)], axis=1) * radius + (side - 1) / 2
    gaps = [np.sqrt(((np.argwhere(found) - point) ** 2).sum(1)).min() for point in circle]
    assert max(gaps) <= 1.5
    assert found.sum() <= 2 * math.pi * radius * 1.2, "one pixel thin"


@pytest.mark.parametrize("side", [32, 64, 256])
@pytest.mark.parametrize(("height", "is_edge"), [(0.19, False), (0.21, True)])
def test_a_step_of_brightness_is_an_edge_from_the_same_height_on_at_every_size(side, height, is_edge):
    picture = np.full((side, side), 0.3)
    picture[:, side // 2 :] += height
    columns = np.flatnonzero(annotate("edge", as_images(picture))[0, 0, side // 2].numpy())
    assert set(columns) <= {side // 2 - 1, side // 2} and bool(len(columns)) == is_edge


def test_a_faint_piece_of_an_edge_counts_where_it_continues_a_strong_one():
    picture = np.zeros((32, 32))
    picture[:, 16:] = np.linspace(0.13, 0.35, 32)[:, None]
    found = annotate("edge", as_images(picture))[0, 0].numpy()
    assert found[2:-2].any(axis=1).all()
    picture[:, 16:] = 0.13
    assert not annotate("edge", as_images(picture)).any()


# sketch


@pytest.mark.parametrize(("side", "width"), [(32, 3), (64, 5), (256, 12)])
def test_a_sketch_has_one_soft_line_along_a_stroke_where_edges_are_two(side, width):
    picture = np.zeros((side, side))
    middle = side // 2
    picture[side // 8 : -side // 8, middle - width // 2 : middle + (width + 1) // 2] = 1
    images = as_images(picture)
    across = annotate("sketch", images)[0, 0, middle].numpy()
    peaks = np.flatnonzero((across[1:-1] > 0.5) & (across[1:-1] >= across[:-2]) & (across[1:-1] > across[2:])) + 1
    assert len(peaks) == 1 and abs(peaks[0] - (middle - (width % 2 == 0) / 2)) <= 1
    assert across[peaks[0]] > 0.95 and ((across > 0.02) & (across < 0.9)).sum() >= 2, "soft flanks"
    assert scipy.ndimage.label(annotate("edge", images)[0, 0, middle].numpy())[1] == 2


def test_a_speck_is_no_line_of_a_sketch():
    picture = np.zeros((32, 32))
    picture[8:10, 8:10] = 1
    assert not annotate("sketch", as_images(picture)).any()
    picture[20, 4:28] = 1
    found = annotate("sketch", as_images(picture))[0, 0]
    assert found[20, 16] > 0.95 and not found[:15].any()


# segmentation


def test_segments_are_the_ground_and_the_two_tones_of_an_object():
    picture = np.zeros((32, 32))
    picture[6:26, 4:16], picture[6:26, 16:28] = 0.4, 0.9
    found = annotate("segmentation", as_images(picture))[0, 0].numpy()
    assert set(np.unique(found)) == {0, np.float32(MIDDLE_GREY), 1}
    expected = np.select([picture == 0.9, picture == 0.4], [1, MIDDLE_GREY], 0)
    wrong = np.argwhere(np.abs(found - expected) > 0.01)
    rows, columns = wrong[:, 0], wrong[:, 1]
    beside_a_border = np.isin(rows, (5, 26)) | np.isin(columns, (3, 28)) | (np.abs(columns - 15.5) <= 2)
    assert beside_a_border.all()


@pytest.mark.parametrize("tone", [0.3, 1.0])
def test_an_object_of_one_tone_is_one_segment_however_bright(tone):
    texture = np.random.default_rng(0).uniform(-0.05, 0.05, (32, 32))
    found = annotate("segmentation", as_images(np.clip(disc(32, 10, tone=tone) + texture * (radii(32) < 9), 0, 1)))[0, 0].numpy()
    assert set(np.unique(found)) == {0, 1}
    assert (found[radii(32) < 9.5] == 1).all() and (found[radii(32) > 12] == 0).all()


# depth and normals


def test_the_relief_is_the_distance_to_the_ground_smoothed():
    picture = drawn(1)[0, 0].numpy() / 2 + 0.5
    inside = annotators.object_mask(picture)
    assert 0 < inside.sum() < inside.size
    expected = scipy.ndimage.gaussian_filter(brute_force_distances(inside), annotators.RELIEF_BLUR, mode="nearest")
    assert np.allclose(annotators.relief(picture), expected, atol=1e-6)


@pytest.mark.parametrize(("side", "radius"), [(32, 12), (128, 50), (256, 80)])
def test_the_depth_of_a_disc_is_a_cone(side, radius):
    found = annotate("depth", as_images(disc(side, radius)))[0, 0].numpy()
    r, sigma = radii(side), side / 32
    # A Gaussian lowers a cone's top by sigma sqrt(pi / 2), and its flank by sigma^2 / 2r.
    height = radius + 1  # the nearest ground pixel is about that far from the middle
    cone = (height - r - sigma**2 / (2 * np.maximum(r, 1))) / (height - sigma * math.sqrt(math.pi / 2))
    flank = (r > 3 * sigma) & (r < radius - 3 * sigma)
    assert np.abs(found - cone)[flank].max() < 0.05
    assert found.max() == 1 and (found[r > radius + 5 * sigma] == 0).all()


@pytest.mark.parametrize("slope", [0.2, 1.0, 3.0])
def test_normals_of_a_cone_lean_outward_by_its_slope(slope):
    side = 65
    y, x = np.indices((side, side)) - side // 2
    r = np.hypot(y, x)
    found = 2 * annotators.normals(slope * (30 - r)) - 1
    with np.errstate(invalid="ignore"):
        expected = np.stack([slope * x / r, -slope * y / r, np.ones_like(r)], axis=-1) / math.sqrt(1 + slope**2)
    smooth = (r > 8) & (r < 28)
    angles = np.degrees(np.arccos(np.clip((found * expected).sum(-1)[smooth], -1, 1)))
    assert angles.max() < 1


def test_normals_of_a_disc_face_outward():
    found = annotate("normal", as_images(disc(64, 24)))[0].numpy() * 2 - 1
    half = math.sqrt(0.5)
    for place, expected in {
        (32, 48): (half, 0, half),
        (32, 16): (-half, 0, half),
        (16, 32): (0, half, half),
        (48, 32): (0, -half, half),
    }.items():
        assert np.allclose(found[:, *place], expected, atol=0.08), place
    assert np.allclose(np.linalg.norm(found, axis=0), 1, atol=0.01)


def test_a_mirrored_picture_has_mirrored_depth_and_its_normals_face_the_other_side():
    images = drawn()
    assert (annotate("depth", images.flip(-1)) - annotate("depth", images).flip(-1)).abs().max() <= 1 / 255
    mirrored = annotate("normal", images).flip(-1)
    mirrored[:, 0] = 1 - mirrored[:, 0]
    assert (annotate("normal", images.flip(-1)) - mirrored).abs().max() <= 1.01 / 255


# bad input

GOOD = torch.zeros(2, 3, 32, 32)


@pytest.mark.parametrize(
    ("kind", "images", "message"),
    [
        ("canny", GOOD, "unknown condition 'canny': choose one of edge, sketch, segmentation, depth, normal"),
        ("edge", GOOD[:, :1], r"images must have shape \(N, 3, H, W\), got \(2, 1, 32, 32\); grey ones have three equal channels"),
        ("edge", GOOD[0], r"got \(3, 32, 32\)"),
        ("edge", GOOD[..., :4], r"8 pixels high and wide or more, got \(2, 3, 32, 4\): enlarge them"),
        ("edge", GOOD.byte(), "divide 8-bit images by 127.5 and subtract 1"),
        ("edge", GOOD + 255, r"images must lie in \[-1, 1\], got 255..255: rescale"),
        ("edge", GOOD.log(), "2 of 2 images hold NaN or infinity"),
    ],
)
def test_what_cannot_be_annotated_is_refused_in_one_line(kind, images, message):
    with pytest.raises(ValueError, match=message) as caught:
        annotate(kind, images)
    assert "\n" not in str(caught.value)


def test_arrays_are_no_images():
    with pytest.raises(TypeError, match=r"images must be a tensor \(N, 3, H, W\), got ndarray"):
        annotate("edge", GOOD.numpy())


# kept


def test_a_tasks_conditions_are_those_of_its_pictures_and_of_their_mirror_images():
    task = small_task(size=10, side=32, flip=True)
    for kind in KINDS:
        found = annotate_task(kind, task, batch_size=3)
        assert list(found) == ["conditions", "mirrored"] and found["conditions"].dtype == torch.uint8
        assert torch.equal(found["conditions"].float() / 255, annotate(kind, task.images))
        assert torch.equal(found["mirrored"].float() / 255, annotate(kind, task.images.flip(-1)))
    assert list(annotate_task("edge", dataclasses.replace(task, flip=False))) == ["conditions"]


def test_conditions_are_found_once_and_kept_under_kind_task_and_version(tmp_path, monkeypatch):
    task = small_task(size=5, side=32)
    first = annotate_task("depth", task, cache=tmp_path)["conditions"]
    files = tmp_path / "conditions"
    assert len(list(files.iterdir())) == 1
    with monkeypatch.context() as broken:
        broken.setitem(conditions.TINY_ANNOTATORS, "depth", None)
        assert torch.equal(annotate_task("depth", task, cache=tmp_path)["conditions"], first)
    annotate_task("edge", task, cache=tmp_path)
    annotate_task("depth", task.subset(range(3)), cache=tmp_path)
    monkeypatch.setattr(conditions, "VERSION", conditions.VERSION + 1)
    annotate_task("depth", task, cache=tmp_path)
    assert len(list(files.iterdir())) == 4


def test_a_damaged_file_of_conditions_is_made_again_with_a_warning(tmp_path):
    task = small_task(size=5, side=32)
    expected = annotate_task("edge", task, cache=tmp_path)["conditions"]
    (path,) = (tmp_path / "conditions").iterdir()
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="the conditions are made again"):
        assert torch.equal(annotate_task("edge", task, cache=tmp_path)["conditions"], expected)


# models


class FakePipeline:
    """Stands for transformers' pipelines; depth rises to the right and is given at half the size."""

    def __init__(self, task: str, model: str, device: torch.device):
        if model == "nowhere":
            raise OSError("nowhere is not a local folder\nand is not a valid model identifier")
        self.task, self.seen = task, 0
        self.model = types.SimpleNamespace(config=types.SimpleNamespace(label2id={"wall": 0, "floor": 2}))

    def __call__(self, picture):
        from PIL import Image

        self.seen += 1
        columns = torch.arange(picture.width // 2, dtype=torch.float32)
        if self.task == "depth-estimation":
            return {"predicted_depth": (7 + 3 * columns).expand(1, picture.height // 2, -1)}
        left = np.zeros((picture.height, picture.width), np.uint8)
        left[:, : picture.width // 4] = 255
        return [{"label": "floor", "mask": Image.fromarray(left), "score": 1.0}]


@pytest.fixture
def transformers(monkeypatch):
    """A module that has the name and the one function, and keeps what it has made."""
    made = []

    def pipeline(task, *, model, device):
        made.append(FakePipeline(task, model, device))
        return made[-1]

    annotator_models._load.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(pipeline=pipeline))
    yield made
    annotator_models._load.cache_clear()


def test_a_models_depth_fills_the_range_and_its_slope_gives_the_normals(transformers):
    images = torch.zeros(2, 3, 32, 32)
    depth = annotate("depth", images, annotator="some/model")
    assert torch.equal(depth[0], depth[1]) and depth[0, 0].min() == 0 and depth[0, 0].max() == 1
    assert (depth[0, 0, 5].diff() >= 0).all() and (depth[0, 0].diff(dim=0) == 0).all()
    normal = annotate("normal", images, annotator="some/model")[0, :, 16, 16] * 2 - 1
    slope = 0.25 * 32 / 30  # a rise of a quarter of the side over some 30 columns, enlarged from 16
    expected = torch.tensor([-slope, 0, 1]) / math.hypot(slope, 1)
    assert torch.allclose(normal, expected, atol=0.02)
    assert len(transformers) == 1 and transformers[0].seen == 4, "loaded once"


def test_a_models_segments_have_the_colours_of_their_classes(transformers):
    found = annotate("segmentation", torch.zeros(1, 3, 32, 32), annotator="some/model")[0]
    assert torch.equal(found[:, :, :8], (torch.tensor([128, 128, 0]) / 255).reshape(3, 1, 1).expand(3, 32, 8))
    assert not found[:, :, 8:].any()


@pytest.mark.parametrize(
    ("number", "colour"), [(0, (0, 0, 0)), (1, (128, 0, 0)), (2, (0, 128, 0)), (15, (192, 128, 128)), (20, (0, 64, 128))]
)
def test_class_colours_are_those_of_pascal_voc(number, colour):
    assert tuple(round(255 * value) for value in class_colour(number)) == colour


def test_all_classes_have_different_colours():
    assert len({class_colour(number) for number in range(2000)}) == 2000


def test_a_models_conditions_are_kept_even_of_a_small_task(transformers, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFTUNING_CACHE", str(tmp_path))
    task = small_task(size=4, side=32)
    first = annotate_task("depth", task, annotator="some/model")["conditions"]
    second = annotate_task("depth", task, annotator="some/model")["conditions"]
    assert torch.equal(first, second) and transformers[0].seen == 4
    annotate_task("depth", task, annotator="other/model")
    assert len(list((tmp_path / "conditions").iterdir())) == 2


@pytest.mark.parametrize("kind", ["edge", "sketch"])
def test_lines_have_no_model(kind):
    with pytest.raises(
        ValueError, match=f"no annotator 'some/model' for {kind}: models are for segmentation, depth, normal; leave annotator"
    ):
        annotate(kind, GOOD, annotator="some/model")


def test_a_model_that_is_nowhere_is_named_in_one_line(transformers):
    with pytest.raises(FileNotFoundError, match="no annotator 'nowhere' for depth-estimation: give a folder or hub id") as caught:
        annotate("depth", GOOD, annotator="nowhere")
    assert "\n" not in str(caught.value)


def test_a_model_without_transformers_names_the_extra(monkeypatch):
    annotator_models._load.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'annotator=\'some/model\' needs transformers: pip install "difftuning\[paper\]"'):
        annotate("depth", GOOD, annotator="some/model")


def test_a_real_depth_model_of_random_weights_gives_what_its_forward_pass_gives(tmp_path):
    model = small_depth_annotator(tmp_path)
    images = (drawn(3) * 127.5 + 127.5).round() / 127.5 - 1
    with torch.no_grad():
        depth = model(images).predicted_depth  # (3, 64, 64)
    depth = torch.nn.functional.interpolate(depth[:, None], (32, 32), mode="bicubic", align_corners=False)[:, 0]
    low, high = depth.amin((1, 2), keepdim=True), depth.amax((1, 2), keepdim=True)
    assert (high - low).min() > 1e-3
    found = annotate("depth", images, annotator=tmp_path)
    assert (found[:, 0] - (depth - low) / (high - low)).abs().max() <= 1.01 / 255


def test_a_real_segmentation_model_of_random_weights_gives_the_likeliest_classes(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_encoder_blocks=4, depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8,
        num_labels=5, sr_ratios=[1] * 4,
    )  # fmt: skip
    model = transformers.SegformerForSemanticSegmentation(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(tmp_path)
    transformers.SegformerImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(
        tmp_path
    )
    images = (drawn(3) * 127.5 + 127.5).round() / 127.5 - 1
    with torch.no_grad():
        logits = model(images).logits
    classes = torch.nn.functional.interpolate(logits, (32, 32), mode="bilinear", align_corners=False).argmax(1)
    assert len(classes.unique()) > 1
    colours = torch.tensor([class_colour(number + 1) for number in range(5)])
    found = annotate("segmentation", images, annotator=tmp_path)
    assert ((found - colours[classes].permute(0, 3, 1, 2)).abs().amax(1) < 0.01).float().mean() > 0.99
