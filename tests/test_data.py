"""Tasks load the same pictures from whatever they are kept in, and refuse bad ones in one clear line."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from difftuning import data, files, folders, latents
from difftuning.data import list_tasks, load_source, load_task
from difftuning.files import DamagedFileError
from difftuning.latents import encode_latents


def grey(n: int, seed: int = 0, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side), dtype=np.uint8)


def write_checksums(folder: Path) -> None:
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "SHA256SUMS"]
    (folder / "SHA256SUMS").write_text("".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names))


@pytest.fixture
def fresh_checksums():
    """Each world is verified once per process: forget it before and after a made-up one."""
    caches = (files._verified, files._world_checksums)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def world(tmp_path, monkeypatch, fresh_checksums) -> Path:
    folder = tmp_path / "world"
    (folder / "tasks").mkdir(parents=True)
    (folder / "source").mkdir()
    for name, classes in {"digits": 10, "footwear": 3}.items():
        arrays = {}
        for seed, (split, n) in enumerate({"train": 20, "validation": 12, "test": 15}.items()):
            arrays |= {f"{split}_images": grey(n, seed), f"{split}_labels": np.arange(n) % classes}
        np.savez_compressed(folder / "tasks" / f"{name}.npz", **arrays)
        card = {"name": name, "class_names": [f"{name} {i}" for i in range(classes)], "flip": name == "footwear", "licence": "MIT"}
        (folder / "tasks" / f"{name}.json").write_text(json.dumps(card))
    arrays = {}
    for split, n in {"train": 9, "heldout": 4}.items():
        arrays |= {f"{split}_images": grey(n), f"{split}_labels": np.arange(n) % 2}
        arrays[f"{split}_kinds"] = np.arange(n) % 3
    np.savez_compressed(folder / "source" / "source.npz", **arrays)
    (folder / "source" / "source.json").write_text(json.dumps({"class_names": ["home", "camera"], "kinds": ["icon", "glyph", "photo"]}))
    write_checksums(folder)
    monkeypatch.setenv("DIFFTUNING_DATA", str(folder))
    return folder


@pytest.fixture
def flowers(tmp_path) -> Path:
    """Three classes of two photographs each, 80 x 60 pixels."""
    rng = np.random.default_rng(0)
    for name in ("tulip", "aster", "rose"):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "flowers" / name / f"{i}.png")
    return tmp_path / "flowers"


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# the tiny world


def test_a_named_task_holds_the_pictures_of_its_npz_as_three_equal_channels(world):
    task = load_task("digits", split="validation")
    with np.load(world / "tasks" / "digits.npz") as arrays:
        pictures, labels = arrays["validation_images"], arrays["validation_labels"]
    assert task.images.shape == (12, 3, 32, 32) and task.images.dtype == torch.float32
    assert np.array_equal(((task.images + 1) * 127.5).round().numpy(), np.stack([pictures] * 3, axis=1).astype(np.float32))
    assert task.images.min() >= -1 and task.images.max() <= 1
    assert task.labels.dtype == torch.int64 and task.labels.tolist() == labels.tolist()
    assert (task.name, len(task), task.image_size, task.class_names[3]) == ("digits", 12, 32, "digits 3")


def test_the_card_says_licence_and_whether_to_flip(world):
    assert load_task("digits").card["licence"] == "MIT"
    assert load_task("footwear").flip and not load_task("digits").flip


def test_list_tasks_names_every_task_of_the_world(world):
    assert list_tasks() == ["digits", "footwear"]


def test_the_source_sample_says_each_pictures_kind(world):
    source = load_source("heldout")
    assert source.class_names == ["home", "camera"] and source.kinds == ["icon", "glyph", "photo", "icon"]
    assert source.subset([2, 0]).kinds == ["photo", "icon"]
    assert len(load_source()) == 9
    with pytest.raises(ValueError, match="'test': choose train or heldout"):
        load_source("test")


def test_an_altered_world_file_is_refused(world):
    with open(world / "tasks" / "digits.npz", "ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedFileError, match="digits.npz does not match its checksum"):
        load_task("digits")


def test_a_misspelt_task_is_answered_with_the_nearest_and_all_names_without_asking_the_hub(world):
    with pytest.raises(FileNotFoundError) as error:
        load_task("Digts")
    assert "'Digts'; did you mean 'digits'?; the tiny world has digits, footwear" in one_line(error)


def test_an_unknown_name_is_asked_of_the_hub_and_then_named(world, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, answer in {
        "zzqx": "the hub gave no data set 'zzqx'",
        "nobody/zzqx": "the datasets library cannot load 'nobody/zzqx'",
    }.items():
        with pytest.raises(FileNotFoundError) as error:
            load_task(name)
        assert f"no task, folder or npz file '{name}', and {answer}" in one_line(error)
    with pytest.raises(FileNotFoundError, match="no task, folder or npz file './nowhere/at/all'$"):
        load_task("./nowhere/at/all")


def test_a_name_of_the_world_wins_over_a_folder_unless_written_as_a_path(world, flowers, monkeypatch):
    monkeypatch.chdir(flowers.parent)
    flowers.rename("digits")
    assert load_task("digits").class_names[0] == "digits 0"
    assert load_task("./digits").class_names == load_task(Path("digits")).class_names == ["aster", "rose", "tulip"]


def test_an_unknown_split_is_refused_with_the_choices(world):
    with pytest.raises(ValueError, match="unknown split 'val': choose one of train, validation, test"):
        load_task("digits", split="val")


@pytest.mark.parametrize("size", [0, -8, 32.0, True])
def test_a_size_that_is_no_number_of_pixels_is_refused(world, size):
    with pytest.raises(ValueError, match=f"got {size!r}"):
        load_task("digits", size=size)


# reading


def test_read_gives_just_those_pictures_in_that_order(world):
    task = load_task("digits")
    assert torch.equal(task.read([7, 2]), task.images[[7, 2]])
    assert torch.equal(task.read(task.labels == 3), task.images[task.labels == 3])
    assert task.read([]).shape == (0, 3, 32, 32)
    with pytest.raises(IndexError):
        task.read([20])


def test_a_subset_is_a_task_of_its_own(world):
    task = load_task("digits")
    part = task.subset([5, 11]).subset(torch.tensor([1]))
    assert torch.equal(part.images, task.images[[11]]) and part.labels.tolist() == [1]
    assert len({task.fingerprint, part.fingerprint, task.subset([5]).fingerprint, task.subset([11]).fingerprint}) == 4
    with pytest.raises(ValueError, match="digits has no pictures"):
        task.subset([])


def test_a_task_survives_pickling_into_another_process(world, flowers):
    for task in (load_task("digits").subset([3, 1]), load_task(flowers, size=16)):
        assert torch.equal(pickle.loads(pickle.dumps(task)).images, task.images)


def test_images_refuses_to_fill_the_memory(world, monkeypatch):
    monkeypatch.setattr(data, "READ_ALL_LIMIT", 1000)
    with pytest.raises(ValueError, match=r"use task.read\(indices\)"):
        _ = load_task("digits").images


def test_the_fingerprint_changes_with_pictures_labels_and_size(tmp_path):
    images, labels = grey(4), np.array([0, 1, 0, 1])
    other = images.copy()
    other[2, 5, 5] ^= 1
    variants = {"same": (images, labels), "picture": (other, labels), "label": (images, labels[::-1])}
    for name, (pictures, table) in variants.items():
        np.savez(tmp_path / f"{name}.npz", images=pictures, labels=table)
    np.savez_compressed(tmp_path / "again.npz", images=images, labels=labels)
    prints = {name: load_task(tmp_path / f"{name}.npz").fingerprint for name in (*variants, "again")}
    assert prints["same"] == prints["again"]
    assert len({*prints.values(), load_task(tmp_path / "same.npz", size=16).fingerprint}) == 4


# npz files


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
    "lengths": ({"images": grey(3), "labels": [0, 1]}, "3 images but 2 labels"),
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
    with pytest.raises(ValueError, match="object.npz holds a pickled object array, which is never loaded"):
        load_task("object.npz")
    with pytest.raises(DamagedFileError, match="pickle.npz .* never loaded"):
        load_task("pickle.npz")
    assert not Path("exploded").exists()


def test_a_missing_npz_is_named():
    with pytest.raises(FileNotFoundError, match="no file nowhere.npz"):
        load_task("nowhere.npz")


# folders


def adm_center_crop(picture: Image.Image, size: int) -> np.ndarray:
    """`center_crop_arr` of openai/guided-diffusion (MIT), as facebookresearch/DiT has it."""
    while min(*picture.size) >= 2 * size:
        picture = picture.resize(tuple(x // 2 for x in picture.size), resample=Image.BOX)
    scale = size / min(*picture.size)
    picture = picture.resize(tuple(round(x * scale) for x in picture.size), resample=Image.BICUBIC)
    array = np.array(picture)
    y, x = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return array[y : y + size, x : x + size]


@pytest.mark.parametrize("size", [13, 24, 100])
def test_a_folder_gives_the_pixels_of_adm_preprocessing(flowers, size):
    task = load_task(flowers, size=size)
    assert task.class_names == ["aster", "rose", "tulip"] and task.labels.tolist() == [0, 0, 1, 1, 2, 2]
    expected = adm_center_crop(Image.open(flowers / "rose" / "1.png").convert("RGB"), size)
    assert torch.equal(task.read([3])[0], torch.from_numpy(expected).permute(2, 0, 1).float() / 127.5 - 1)
    assert (task.name, task.card, task.flip) == ("flowers", {}, False)


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


def test_exif_orientation_is_applied(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    picture = Image.new("RGB", (16, 16), "black")
    picture.paste("white", (0, 0, 16, 8))  # white above black
    exif = Image.Exif()
    exif[0x0112] = 3  # "turned by 180 degrees"
    picture.save(tmp_path / "set" / "a" / "turned.png", exif=exif)
    image = load_task(tmp_path / "set", size=16).images[0]
    assert (image[:, :8] == -1).all() and (image[:, 8:] == 1).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white_paper(tmp_path, mode):
    """A black disc on nothing, where the hidden colour is black as well."""
    icon = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    icon.paste((0, 0, 0, 255), (2, 2, 6, 6))
    (tmp_path / "icons" / "disc").mkdir(parents=True)
    icon.convert(mode).save(tmp_path / "icons" / "disc" / "0.png")
    (image,) = load_task(tmp_path / "icons", size=8).images
    assert image[:, 0, 0].tolist() == [1, 1, 1] and image[:, 4, 4].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint64"])
def test_labels_of_an_npz_file_may_be_of_any_whole_kind(tmp_path, dtype):
    np.savez(tmp_path / "t.npz", images=np.zeros((3, 8, 8, 3), np.uint8), labels=np.array([0, 2, 1], dtype=dtype))
    task = load_task(tmp_path / "t.npz")
    assert task.labels.tolist() == [0, 2, 1] and task.labels.dtype == torch.int64 and task.class_names == ["0", "1", "2"]


def test_an_empty_name_is_not_the_folder_one_stands_in(flowers, monkeypatch):
    monkeypatch.chdir(flowers)
    with pytest.raises(FileNotFoundError, match="no task '' .*digits"):
        load_task("")
    assert load_task(".", size=8).name == "flowers"


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr("difftuning.data.load_hub_pictures", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(FileNotFoundError, match="no task, folder or npz file 'mine/digts'"):
        load_task("mine/digts")


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_pictures_of_every_8_bit_mode_become_rgb(tmp_path, mode):
    (tmp_path / "set" / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8), "white").convert(mode).save(tmp_path / "set" / "a" / ("p.tiff" if mode == "CMYK" else "p.png"))
    assert (load_task(tmp_path / "set", size=8).images == 1).all()


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
    "a text file": (lambda f: (f / "rose" / "notes.txt").write_text("x"), "rose/notes.txt is no picture"),
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


@pytest.mark.parametrize("limit", [3000, 1000])  # pillow warns at 4800 pixels above the first, raises above the second
def test_a_decompression_bomb_is_refused_before_decoding(flowers, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match="aster/0.png is too large to decode safely"):
        load_task(flowers, size=8)


def test_the_fingerprint_of_a_folder_changes_when_a_file_does(flowers):
    before = load_task(flowers, size=8).fingerprint
    assert load_task(flowers, size=8).fingerprint == before != load_task(flowers, size=9).fingerprint
    os.utime(flowers / "rose" / "0.png", ns=(1, 1))
    assert load_task(flowers, size=8).fingerprint != before


# data sets of the `datasets` library


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def as_dataset(folder: Path, **columns):
    """The folder as a loaded data set; further columns are labels."""
    import datasets

    paths = sorted(folder.glob("*/*.png"))
    names = sorted(p.name for p in folder.iterdir())
    rows = {"image": [str(p) for p in paths], "label": [names.index(p.parent.name) for p in paths]} | columns
    features = {name: datasets.Image() if name == "image" else datasets.ClassLabel(names=names) for name in rows}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def test_a_data_set_of_parquet_files_is_the_same_task_as_its_folder(flowers, tmp_path, hub_cache):
    import datasets

    root = tmp_path / "hub"
    (root / "data").mkdir(parents=True)
    dataset = as_dataset(flowers)
    for split, rows in {"train": range(4), "valid": range(4, 6)}.items():
        encoded = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(flowers.glob("*/*.png"))[rows.start : rows.stop]]
        part = datasets.Dataset.from_dict({"image": encoded, "label": dataset.select(rows)["label"]}, features=dataset.features)
        part.to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")
    expected = load_task(flowers, size=16)
    task = load_task(root, size=16)
    assert torch.equal(task.images, expected.images[:4]) and task.labels.tolist() == [0, 0, 1, 1]
    assert task.class_names == expected.class_names
    assert task.read([]).shape == (0, 3, 16, 16)
    assert torch.equal(load_task(root, split="validation", size=16).images, expected.images[4:])
    with pytest.raises(ValueError, match="has no split 'test': it has train, valid"):
        load_task(root, split="test")


def test_what_save_to_disk_has_left_is_the_same_task_as_the_folder(flowers, tmp_path, hub_cache):
    import datasets

    expected, dataset = load_task(flowers, size=16), as_dataset(flowers)
    dataset.save_to_disk(tmp_path / "one")
    task = load_task(tmp_path / "one", size=16)
    assert torch.equal(task.images, expected.images) and task.class_names == expected.class_names and task.name == "one"
    datasets.DatasetDict({"train": dataset.select(range(4)), "test": dataset.select(range(4, 6))}).save_to_disk(tmp_path / "two")
    assert torch.equal(load_task(tmp_path / "two", split="test", size=16).images, expected.images[4:])
    with pytest.raises(ValueError, match="has no split 'validation': it has train, test"):
        load_task(tmp_path / "two", split="validation")


def test_a_data_set_without_the_needed_columns_is_refused(flowers, hub_cache):
    dataset = as_dataset(flowers)
    with pytest.raises(ValueError, match=r"mine has no column of type Image, only label \(ClassLabel\)"):
        folders.find_dataset_pictures(dataset.remove_columns("image"), "mine", 8)
    with pytest.raises(ValueError, match=r"mine has no column of type ClassLabel, only image \(Image\)"):
        folders.find_dataset_pictures(dataset.remove_columns("label"), "mine", 8)


def test_of_several_label_columns_the_one_called_label_is_taken(flowers, hub_cache):
    dataset = as_dataset(flowers, coarse=[0] * 6)
    assert folders.find_dataset_pictures(dataset, "mine", 8).labels.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.warns(UserWarning, match="ClassLabel columns fine, coarse; 'fine' is taken"):
        folders.find_dataset_pictures(dataset.rename_column("label", "fine"), "mine", 8)


def test_rows_without_label_or_picture_are_named(flowers, hub_cache):
    dataset = as_dataset(flowers, label=[0, 0, 1, None, 2, 2])
    with pytest.raises(ValueError, match="mine: row 3 has no label"):
        folders.find_dataset_pictures(dataset, "mine", 8)
    dataset = as_dataset(flowers, image=[None] * 6)
    with pytest.raises(ValueError, match="mine: row 5 has no picture"):
        folders.find_dataset_pictures(dataset, "mine", 8).reader(np.array([5]))


# latents


class TinyEncoder:
    """The two names that `encode_latents` needs, around a real autoencoder; counts the pictures it sees."""

    encoder_fingerprint = "seed 0"

    def __init__(self):
        from diffusers import AutoencoderKL

        torch.manual_seed(0)
        self.autoencoder = AutoencoderKL(
            block_out_channels=[8, 16], down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
            norm_num_groups=4, layers_per_block=1, latent_channels=4,
        ).eval()  # fmt: skip
        self.seen = 0

    @torch.no_grad()
    def encode(self, images):
        self.seen += len(images)
        return self.autoencoder.encode(images).latent_dist.mode() * 0.5


@pytest.fixture(scope="module")
def encoder():
    return TinyEncoder()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DIFFTUNING_CACHE", str(tmp_path / "default-cache"))
    return tmp_path / "cache"


def test_latents_are_those_of_the_autoencoder_whatever_the_batch(world, encoder, cache):
    task = load_task("digits")
    found = encode_latents(encoder, task, batch_size=7)
    assert list(found) == ["latents"] and found["latents"].shape == (20, 4, 16, 16)
    assert torch.allclose(found["latents"], encoder.encode(task.images), atol=1e-5)


def test_mirror_images_are_encoded_where_the_task_allows_flips(world, encoder, cache):
    task = load_task("footwear")
    mirrored = encode_latents(encoder, task)["mirrored"]
    assert torch.allclose(mirrored, encoder.encode(torch.from_numpy(task.images.numpy()[..., ::-1].copy())), atol=1e-5)
    assert "mirrored" in encode_latents(encoder, dataclasses.replace(load_task("digits"), flip=True))


def test_a_named_cache_is_used_the_second_time(world, encoder, cache):
    task = load_task("footwear")
    first = encode_latents(encoder, task, cache=cache)
    seen = encoder.seen
    second = encode_latents(encoder, load_task("footwear"), cache=cache)
    assert encoder.seen == seen and len(list((cache / "latents").iterdir())) == 1
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_another_task_autoencoder_or_flip_has_its_own_cache_file(world, cache):
    encoder = TinyEncoder()
    task = load_task("digits")
    for variant in (task, task.subset(range(10)), dataclasses.replace(task, flip=True)):
        encode_latents(encoder, variant, cache=cache)
    encoder.encoder_fingerprint = "another"
    encode_latents(encoder, task, cache=cache)
    assert len(list((cache / "latents").iterdir())) == 4


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def flip_one_bit(path):
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


def replace_by_pickle(path):
    torch.save({"latents": torch.zeros(20, 4, 16, 16)}, path)


@pytest.mark.parametrize("damage", [cut, flip_one_bit, replace_by_pickle])
def test_a_damaged_cache_file_is_rebuilt_with_a_warning(world, encoder, cache, damage):
    task = load_task("digits")
    expected = encode_latents(encoder, task, cache=cache)["latents"]
    damage(next((cache / "latents").iterdir()))
    with pytest.warns(UserWarning, match="encoded again"):
        assert torch.equal(encode_latents(encoder, task, cache=cache)["latents"], expected)
    seen = encoder.seen
    assert torch.equal(encode_latents(encoder, task, cache=cache)["latents"], expected) and encoder.seen == seen


def test_small_tasks_touch_no_disk_and_large_ones_use_the_default_cache(world, encoder, cache, monkeypatch):
    task = load_task("digits")
    encode_latents(encoder, task)
    assert not latents.cache_folder().exists()
    monkeypatch.setattr(latents, "SMALL_TASK", 20)
    encode_latents(encoder, task)
    assert [p.suffix for p in (latents.cache_folder() / "latents").iterdir()] == [".safetensors"]


def test_progress_shows_only_for_large_tasks(world, encoder, cache, monkeypatch, capfd):
    monkeypatch.delenv("DIFFTUNING_PROGRESS", raising=False)
    task = load_task("digits")
    encode_latents(encoder, task)
    monkeypatch.setattr(latents, "SMALL_TASK", 10)
    encode_latents(encoder, task, progress=False)
    assert capfd.readouterr().err == ""
    encode_latents(encoder, task.subset(range(12)))
    assert "encoding digits" in capfd.readouterr().err


def test_a_cache_that_cannot_be_written_is_refused_before_encoding(world, encoder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    seen = encoder.seen
    with pytest.raises(OSError, match="set DIFFTUNING_CACHE"):
        encode_latents(encoder, load_task("digits"), cache=tmp_path / "file")
    assert encoder.seen == seen
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        encode_latents(encoder, load_task("digits"), batch_size=0)


def test_an_interrupted_encoding_leaves_no_file(world, cache):
    class Failing(TinyEncoder):
        def encode(self, images):
            if self.seen:
                raise KeyboardInterrupt
            return super().encode(images)

    with pytest.raises(KeyboardInterrupt):
        encode_latents(Failing(), load_task("digits"), cache=cache, batch_size=4)
    assert list((cache / "latents").iterdir()) == []


def test_importing_data_brings_in_torch_and_numpy_only():
    code = (
        "import sys, difftuning.data, difftuning.latents; print([m for m in ('PIL', 'datasets', 'tqdm', 'diffusers') if m in sys.modules])"
    )
    torch_alone = "import sys, torch, numpy; print([m for m in ('PIL', 'datasets', 'tqdm', 'diffusers') if m in sys.modules])"
    found, expected = (
        subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True).stdout for c in (code, torch_alone)
    )
    assert found == expected


def test_a_label_of_trillions_is_no_class(tmp_path):
    np.savez(tmp_path / "t.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.array([0, 10**12]))
    with pytest.raises(ValueError, match="label 1000000000000 is too large to be a class"):
        load_task(tmp_path / "t.npz")


@pytest.mark.parametrize("name", ["game icons", "digits "])
def test_a_name_with_a_blank_gets_its_nearest_names(name):
    with pytest.raises(FileNotFoundError, match="did you mean '(game_icons|digits)'.*the tiny world has"):
        load_task(name)


def test_sizes_of_numpy_are_sizes():
    assert load_task("digits", size=np.int64(16)).image_size == 16
