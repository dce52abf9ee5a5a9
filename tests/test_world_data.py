"""The shipped pictures are what their card says: read here with numpy alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
CARDS = sorted((DATA / "tasks").glob("*.json"))
SPLITS = ("train", "validation", "test")
LIMITS = {"drawn": 0.9501, "flags": 0.9851, "photographed": 0.9951}  # the card's thresholds, and room for rounding


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def unit_vectors(images: np.ndarray) -> np.ndarray:
    """Averages of 2x2 pixels, centred, of length 1: their products are correlations."""
    small = images.astype(np.float64).reshape(len(images), 16, 2, 16, 2).mean((2, 4)).reshape(len(images), -1)
    small -= small.mean(1, keepdims=True)
    return small / np.linalg.norm(small, axis=1, keepdims=True)


def test_every_recorded_file_has_its_checksum_and_no_data_file_is_unrecorded():
    recorded = dict(reversed(line.split(maxsplit=1)) for line in (DATA / "SHA256SUMS").read_text().splitlines())
    for name, digest in recorded.items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest, name
    kept = {p.relative_to(DATA).as_posix() for p in DATA.rglob("*") if p.is_file()}
    kept = {name for name in kept if not name.startswith(("build/", "results/", "next/"))}
    unrecorded = [name for name in kept - set(recorded) if Path(name).name not in ("README.md", "SHA256SUMS")]
    assert not unrecorded


def test_there_are_eight_tasks_two_of_them_for_development():
    names = {path.stem for path in CARDS}
    assert len(names) == 8 and {"footwear", "digits"} <= names


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_describes_its_task(path):
    card, task = json.loads(path.read_text()), arrays(path.with_suffix(".npz"))
    assert card["name"] == path.stem and card["licence"] and card["source"] and isinstance(card["flip"], bool)
    for split in SPLITS:
        images, labels = task[f"{split}_images"], task[f"{split}_labels"]
        assert images.shape == (card["splits"][split], 32, 32) and images.dtype == np.uint8
        assert labels.shape == (len(images),) and labels.dtype == np.int64
        assert set(labels.tolist()) == set(range(len(card["class_names"]))), split
    assert 200 <= card["splits"]["train"] <= 10_000 and card["splits"]["validation"] >= 80 and card["splits"]["test"] >= 300


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_pictures_are_bright_on_dark_and_never_blank(path):
    task = arrays(path.with_suffix(".npz"))
    for split in SPLITS:
        images = task[f"{split}_images"].astype(float)
        corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert np.median(corners) == 0 and (images.std((1, 2)) > 8).all()


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_no_picture_stands_in_two_splits(path):
    card, task = json.loads(path.read_text()), arrays(path.with_suffix(".npz"))
    limit = LIMITS["flags" if path.stem == "flags" else card["kind"]]
    vectors = {split: unit_vectors(task[f"{split}_images"]) for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert (vectors[one] @ vectors[other].T).max() < limit, (one, other)


def test_the_source_sample_shares_no_picture_with_a_task():
    source = arrays(DATA / "source" / "source.npz")
    for part in ("train", "heldout"):
        vectors, photographed = unit_vectors(source[f"{part}_images"]), is_photographed(source, part)
        for path in CARDS:
            task = arrays(path.with_suffix(".npz"))
            others = unit_vectors(np.concatenate([task[f"{split}_images"] for split in SPLITS]))
            nearest = np.concatenate([(rows @ others.T).max(1) for rows in np.array_split(vectors, 8)])
            assert nearest[photographed].max() < LIMITS["photographed"], path.stem
            assert nearest[~photographed].max() < LIMITS["flags" if path.stem == "flags" else "drawn"], path.stem


def is_photographed(source: dict[str, np.ndarray], part: str) -> np.ndarray:
    """Photographs and handwriting, where only the same picture counts as a duplicate."""
    names = json.loads((DATA / "source" / "source.json").read_text())["class_names"]
    return (source[f"{part}_kinds"] == 0) | (source[f"{part}_labels"] == names.index("handwritten digit"))


def test_source_labels_have_names_and_held_out_pictures_are_no_training_ones():
    card, source = json.loads((DATA / "source" / "source.json").read_text()), arrays(DATA / "source" / "source.npz")
    assert source["train_labels"].max() < len(card["class_names"]) <= 600
    assert set(np.unique(source["train_labels"])) == set(range(len(card["class_names"])))
    for limit, photographs in ((LIMITS["photographed"], True), (LIMITS["drawn"], False)):
        train, held = (
            unit_vectors(source[f"{part}_images"][is_photographed(source, part) == photographs]) for part in ("train", "heldout")
        )
        for rows in np.array_split(held, 8):
            assert (rows @ train.T).max() < limit


def facing(images: np.ndarray) -> np.ndarray:
    """How much brighter the left half is than the right one, for each picture."""
    left, right = np.split(images.astype(np.float64) / 255, 2, axis=2)
    return left.mean((1, 2)) - right.mean((1, 2))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_only_pictures_that_face_both_ways_may_be_mirrored(path):
    """Mirrored shoes would be learned, drawn, and scored against shoes that all point to the left."""
    found = facing(arrays(path.with_suffix(".npz"))["train_images"])
    if abs(found.mean()) > 4 * found.std(ddof=1) / np.sqrt(len(found)):
        assert not json.loads(path.read_text())["flip"]
    if path.stem == "footwear":
        assert found.mean() < -0.05 or found.mean() > 0.05
