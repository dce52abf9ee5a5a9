"""Folders of class folders: splits, classes, and what is refused in one clear line."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difftuning.data import content
from difftuning.data.tasks import load_task
from difftuning.support.files import DamagedFileError, read_json, sha256
from tests.data.helpers import one_line


def test_folders_are_256_pixels_by_default(flowers):
    task = load_task(flowers)
    assert task.image_size == 256 and task.read([0]).shape == (1, 3, 256, 256)


def test_only_the_pictures_asked_for_are_decoded(flowers):
    damaged = flowers / "tulip" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    task = load_task(flowers, size=16)  # the header is whole
    assert task.read(range(5)).shape == (5, 3, 16, 16)
    with pytest.raises(DamagedFileError, match="tulip/1.png is a damaged picture"):
        task.read([5])


def test_train_validation_and_test_folders_are_splits_with_common_labels(flowers, tmp_path):
    root = tmp_path / "split"
    (root / "val").mkdir(parents=True)
    flowers.rename(root / "train")
    (root / "train" / "rose").rename(root / "val" / "rose")
    task = load_task(root, split="validation", size=8)
    assert task.class_names == ["aster", "rose", "tulip"] and task.labels.tolist() == [1, 1]
    assert load_task(root, size=8).labels.tolist() == [0, 0, 2, 2]
    with pytest.raises(ValueError, match="has no split 'test': it has train, val"):
        load_task(root, split="test")


def test_a_class_may_be_called_train(flowers):
    (flowers / "rose").rename(flowers / "train")
    assert load_task(flowers, size=8).class_names == ["aster", "train", "tulip"]


def test_a_folder_without_split_folders_has_only_train(flowers):
    with pytest.raises(ValueError, match="flowers has no split 'test': the only split is 'train'"):
        load_task(flowers, split="test")


def test_what_operating_systems_leave_behind_is_ignored(flowers):
    for name in (".DS_Store", "aster/.DS_Store", "aster/Thumbs.db", "README.txt"):
        (flowers / name).write_text("x")
    (flowers / ".ipynb_checkpoints").mkdir()
    (flowers / "__MACOSX").mkdir()
    assert len(load_task(flowers, size=8)) == 6


def spoil_empty(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def spoil_flat(folder):
    for path in folder.glob("*/*"):
        path.rename(folder / f"{path.parent.name}{path.name}")
    for path in folder.glob("*/"):
        path.rmdir()


def save(path, array):
    Image.fromarray(array).save(path)


SPOILS = {
    "an empty folder": (spoil_empty, "flowers is empty"),
    "no class folders": (spoil_flat, "flowers has no class folders"),
    "an empty class": (lambda f: (f / "lily").mkdir(), "lily has no pictures"),
    "nested folders": (lambda f: (f / "rose" / "red").mkdir(), "rose holds the folder 'red'"),
    "a text that is called a picture": (lambda f: (f / "rose" / "notes.png").write_text("x"), "rose/notes.png is no picture"),
    "a class of texts alone": (lambda f: [(f / "lily").mkdir(), (f / "lily" / "a.txt").write_text("x")], "lily has no pictures"),
    "a link that leads nowhere": (lambda f: (f / "rose" / "x.png").symlink_to(f / "gone.png"), "rose/x.png is no picture"),
    "an empty file": (lambda f: (f / "rose" / "0.png").write_bytes(b""), "rose/0.png is no picture"),
    "16 bits": (lambda f: save(f / "rose" / "0.png", np.zeros((8, 8), np.uint16)), "rose/0.png has mode I;16"),
    "a strip": (lambda f: save(f / "rose" / "0.png", np.zeros((1, 30000), np.uint8)), "rose/0.png is 30000x1, too narrow"),
}


@pytest.mark.parametrize("case", SPOILS)
def test_a_folder_that_is_no_set_of_classes_is_refused(flowers, case):
    spoil, message = SPOILS[case]
    spoil(flowers)
    with pytest.raises(ValueError, match=message) as error:
        load_task(flowers)
    one_line(error)


def test_a_text_file_beside_pictures_is_left_out_with_a_warning(flowers):
    before = load_task(flowers, size=8)
    for name in ("a.txt", "metadata.csv"):
        (flowers / "rose" / name).write_text("x")
    with pytest.warns(UserWarning, match=r"rose: 'a.txt' and 1 more is left out \(a text file\)"):
        after = load_task(flowers, size=8)
    assert after.fingerprint == before.fingerprint and len(after) == len(before)


def fingerprint(folder) -> str:
    return load_task(folder, size=8).fingerprint


def test_a_folder_is_told_by_its_pictures_not_by_its_place_or_time(flowers, tmp_path):
    before = fingerprint(flowers)
    os.utime(flowers / "rose" / "0.png", ns=(1, 1))
    assert fingerprint(flowers) == before == fingerprint(shutil.copytree(flowers, tmp_path / "elsewhere"))
    assert before != load_task(flowers, size=9).fingerprint
    (flowers / "rose").rename(flowers / "lily")
    assert fingerprint(flowers) != before


@pytest.mark.parametrize("limit", [10**9, 0], ids=["small", "large, with digests in the cache"])
def test_a_changed_picture_of_equal_size_and_time_is_noticed(flowers, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(content, "LARGE", limit)
    monkeypatch.setattr(content, "SETTLED", -1e9)  # digests of files that changed just now are kept, too
    monkeypatch.setenv("DIFFTUNING_CACHE", str(tmp_path / "cache"))
    path = flowers / "rose" / "0.bmp"
    Image.new("RGB", (8, 8), "red").save(path)
    before, stat = fingerprint(flowers), path.stat()
    assert fingerprint(flowers) == before
    Image.new("RGB", (8, 8), "blue").save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size and path.stat().st_mtime_ns == stat.st_mtime_ns
    assert fingerprint(flowers) != before


def test_digests_of_a_large_set_are_worked_out_once_and_a_damaged_cache_is_passed_over(flowers, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFTUNING_CACHE", str(tmp_path / "cache"))
    expected = fingerprint(flowers)
    monkeypatch.setattr(content, "LARGE", 0)
    monkeypatch.setattr(content, "SETTLED", -1e9)
    assert fingerprint(flowers) == expected
    (kept,) = (tmp_path / "cache" / "pictures").iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(
            content, "sha256", lambda *parts: pytest.fail("read again") if parts[0] == flowers / "rose" / "0.png" else sha256(*parts)
        )
        assert fingerprint(flowers) == expected
    kept.write_bytes(b"{}" + kept.read_bytes())
    assert fingerprint(flowers) == expected


def test_a_file_that_has_just_changed_is_not_remembered(flowers, tmp_path, monkeypatch):
    """Two changes within one tick of the clock have one time."""
    monkeypatch.setenv("DIFFTUNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "LARGE", 0)
    fingerprint(flowers)
    (kept,) = (tmp_path / "cache" / "pictures").iterdir()
    assert read_json(kept) == {}


def test_hidden_folders_are_named_and_underscores_are_letters(flowers):
    (flowers / "rose").rename(flowers / ".rose")
    (flowers / "tulip").rename(flowers / "__tulip")
    with pytest.warns(UserWarning, match=r"flowers: '.rose' is left out .hidden: rename it without its dot"):
        task = load_task(flowers, size=8)
    assert task.class_names == ["__tulip", "aster"] and len(task) == 4


def test_hidden_pictures_and_what_lies_beside_the_classes_are_named(flowers, tmp_path):
    shutil.copy(flowers / "rose" / "0.png", flowers / "rose" / ".0.png")
    with pytest.warns(UserWarning, match="rose: '.0.png' is left out"):
        assert len(load_task(flowers, size=8)) == 6
    (flowers / "rose" / ".0.png").rename(flowers / "beside.PNG")
    with pytest.warns(UserWarning, match="flowers: 'beside.PNG' is left out .a picture beside the class folders"):
        assert len(load_task(flowers, size=8)) == 6
    root = tmp_path / "split"
    for split in ("train", "test"):
        shutil.copytree(flowers, root / split, ignore=shutil.ignore_patterns("beside.PNG"))
    shutil.copytree(flowers / "rose", root / "more" / "rose")
    with pytest.warns(UserWarning, match="split: 'more' is left out .not part of test, train"):
        assert len(load_task(root, size=8)) == 6


COMPOSED = "p\u00e2querette"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def test_composed_and_decomposed_accents_are_one_class(flowers, tmp_path):
    (flowers / "rose").rename(flowers / DECOMPOSED)
    before = load_task(flowers, size=8)
    assert before.class_names == ["aster", COMPOSED, "tulip"]
    (flowers / DECOMPOSED).rename(flowers / COMPOSED)
    assert fingerprint(flowers) == before.fingerprint
    root = tmp_path / "split"
    shutil.copytree(flowers, root / "train")
    (root / "test").mkdir()
    shutil.copytree(flowers / COMPOSED, root / "test" / DECOMPOSED)
    assert load_task(root, split="test", size=8).labels.tolist() == [1, 1]


def test_two_classes_that_look_alike_are_refused(flowers):
    (flowers / "rose").rename(flowers / DECOMPOSED)
    (flowers / "tulip").rename(flowers / COMPOSED)
    with pytest.raises(ValueError, match="flowers has two folders whose names look alike"):
        load_task(flowers)


def test_the_order_of_classes_and_pictures_is_that_of_their_characters_on_every_system(tmp_path, monkeypatch):
    """Whatever order the file system lists them in; not letters before capitals, as some locales and Windows have it."""
    shades = {"B": 10, "Z": 20, "_": 30, "a": 40, "\u00e4": 50}
    for name, shade in reversed(shades.items()):
        for file, more in {"b.png": 3, "A.png": 1, "a.png": 2, "10.png": 0}.items():
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), shade + more).save(tmp_path / "set" / name / file)
    expected = [shade + more for shade in shades.values() for more in range(4)]
    real = Path.iterdir
    for order in (sorted, lambda paths: sorted(paths, reverse=True), lambda paths: sorted(paths, key=lambda p: p.name.lower())):
        monkeypatch.setattr(Path, "iterdir", lambda self, order=order: iter(order(real(self))))
        task = load_task(tmp_path / "set", size=8)
        assert task.class_names == list(shades)
        assert ((task.images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist() == expected
