"""npz files: what they hold, and what is refused; pickles are never run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from difftuning.data.tasks import load_task
from difftuning.support.files import DamagedFileError
from tests.data.helpers import grey, one_line


def test_an_npz_of_colour_pictures_keeps_its_channels(tmp_path):
    colour = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=colour, labels=np.array([2, 0, 1], dtype=np.uint8), class_names=np.array(["a", "b", "c"]))
    task = load_task(str(tmp_path / "mine.npz"))
    assert torch.allclose(task.images, torch.from_numpy(colour).permute(0, 3, 1, 2) / 127.5 - 1)
    assert (task.name, task.class_names, task.labels.tolist(), task.card, task.flip) == ("mine", ["a", "b", "c"], [2, 0, 1], {}, False)


def test_class_names_are_numbers_over_all_splits_where_the_npz_names_none(tmp_path):
    np.savez(tmp_path / "a.npz", train_images=grey(2), train_labels=[0, 1], val_images=grey(2), val_labels=[2, 0])
    assert load_task(tmp_path / "a.npz").class_names == load_task(tmp_path / "a.npz", split="validation").class_names == ["0", "1", "2"]
    with pytest.raises(ValueError, match="has no split 'test': it has train, val"):
        load_task(tmp_path / "a.npz", split="test")


def test_size_resizes_and_crops_arrays(tmp_path):
    wide = np.zeros((1, 20, 40), dtype=np.uint8)
    wide[:, :, 10:30] = 255  # the centre square is white
    np.savez(tmp_path / "wide.npz", images=wide, labels=[0])
    assert (load_task(tmp_path / "wide.npz", size=20).images == 1).all()
    assert load_task(tmp_path / "wide.npz", size=8).images.shape == (1, 3, 8, 8)
    with pytest.raises(ValueError, match="20x40, not square; give size="):
        load_task(tmp_path / "wide.npz")


BAD_ARRAYS = {
    "floats": ({"images": grey(2) / 255, "labels": [0, 1]}, "uint8 of shape .* got float64"),
    "four channels": ({"images": np.zeros((2, 8, 8, 4), np.uint8), "labels": [0, 1]}, r"got uint8 \(2, 8, 8, 4\)"),
    "one picture": ({"images": grey(1)[0], "labels": [0]}, r"got uint8 \(32, 32\)"),
    "lengths": ({"images": grey(3), "labels": [0, 1]}, r"got uint8 \(3, 32, 32\) and int64 \(2,\)"),
    "no labels": ({"images": grey(2)}, "no array 'labels'"),
    "no images": ({"pictures": grey(2)}, "holds pictures, but no images"),
    "label floats": ({"images": grey(2), "labels": [0.5, 1]}, "whole numbers"),
    "label table": ({"images": grey(2), "labels": [[0], [1]]}, r"whole numbers of shape \(N,\)"),
    "negative label": ({"images": grey(2), "labels": [0, -1]}, "label -1 of picture 1 is outside"),
    "label too large": ({"images": grey(2), "labels": [0, 7], "class_names": np.array(["a", "b"])}, "label 7 of picture 1 is outside 0..1"),
    "nothing": ({"images": grey(0), "labels": np.zeros(0, int)}, "has no pictures"),
    "only train": ({"images": grey(2), "labels": [0, 1]}, "no split 'test': the only split is 'train'"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_npz_that_is_no_set_of_pictures_is_refused(tmp_path, case):
    arrays, message = BAD_ARRAYS[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        load_task(tmp_path / "bad.npz", split="test" if case == "only train" else "train")
    assert "bad" in one_line(error)


def test_a_damaged_npz_is_named(tmp_path):
    path = tmp_path / "cut.npz"
    np.savez_compressed(path, images=grey(4), labels=np.arange(4))
    whole = path.read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 0xFF
    short_member = io.BytesIO()
    with zipfile.ZipFile(short_member, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01")
        archive.writestr("labels.npy", b"")
    for content in (whole[:500], b"", b"not an archive", bytes(altered), short_member.getvalue()):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match="cut.npz is damaged") as error:
            load_task(path)
        one_line(error)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_pickles_are_refused_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("object.npz", images=grey(2), labels=np.array([Bomb(), 1], dtype=object))
    Path("pickle.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("object.npz", "pickle.npz"):
        with pytest.raises(DamagedFileError, match=f"{name} .* pickled objects are never loaded"):
            load_task(name)
    assert not Path("exploded").exists()


def test_a_missing_npz_is_named():
    with pytest.raises(FileNotFoundError, match="no task, folder or npz file 'nowhere.npz'"):
        load_task("nowhere.npz")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint64"])
def test_labels_of_an_npz_file_may_be_of_any_whole_kind(tmp_path, dtype):
    np.savez(tmp_path / "t.npz", images=np.zeros((3, 8, 8, 3), np.uint8), labels=np.array([0, 2, 1], dtype=dtype))
    task = load_task(tmp_path / "t.npz")
    assert task.labels.tolist() == [0, 2, 1] and task.labels.dtype == torch.int64 and task.class_names == ["0", "1", "2"]


def test_a_label_of_trillions_is_no_class(tmp_path):
    np.savez(tmp_path / "t.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.array([0, 10**12]))
    with pytest.raises(ValueError, match="label 1000000000000 is too large to be a class"):
        load_task(tmp_path / "t.npz")


def test_a_split_that_is_not_there_is_told_which_are(tmp_path):
    arrays = {f"{split}_images": grey(2) for split in ("train", "val", "spare")}
    np.savez(tmp_path / "one.npz", images=grey(2), labels=[0, 1])
    np.savez(tmp_path / "two.npz", **arrays, **{name.replace("images", "labels"): [0, 1] for name in arrays})
    with pytest.raises(ValueError, match="has no split 'test': the only split is 'train'; give split='train'$"):
        load_task(tmp_path / "one.npz", split="test")
    with pytest.raises(ValueError, match="has no split 'test': it has train, val, spare; give one of them as split=$"):
        load_task(tmp_path / "two.npz", split="test")
