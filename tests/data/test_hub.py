"""Data sets of the `datasets` library are read as their folders would be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from difftuning.data import hub
from difftuning.data.tasks import load_task


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


def test_two_splits_of_parquet_files_are_told_apart_where_their_labels_are_alike(flowers, tmp_path, hub_cache):
    import datasets

    dataset, paths = as_dataset(flowers), sorted(flowers.glob("*/*.png"))
    for split, pictures in {"train": paths[:2], "validation": paths[2:4]}.items():
        encoded = [{"bytes": path.read_bytes(), "path": path.name} for path in pictures]
        part = datasets.Dataset.from_dict({"image": encoded, "label": [0, 1]}, features=dataset.features)
        part.to_parquet(tmp_path / "hub" / f"{split}-00000-of-00001.parquet")
    train, validation = (load_task(tmp_path / "hub", split=split, size=16) for split in ("train", "validation"))
    assert train.labels.tolist() == validation.labels.tolist() and train.fingerprint != validation.fingerprint
    assert load_task(tmp_path / "hub", size=16).fingerprint == train.fingerprint


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
        hub.find_dataset_pictures(dataset.remove_columns("image"), "mine", 8)
    with pytest.raises(ValueError, match=r"mine has no column of type ClassLabel, only image \(Image\)"):
        hub.find_dataset_pictures(dataset.remove_columns("label"), "mine", 8)


def test_of_several_label_columns_the_one_called_label_is_taken(flowers, hub_cache):
    dataset = as_dataset(flowers, coarse=[0] * 6)
    assert hub.find_dataset_pictures(dataset, "mine", 8).labels.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.warns(UserWarning, match="ClassLabel columns fine, coarse; 'fine' is taken"):
        hub.find_dataset_pictures(dataset.rename_column("label", "fine"), "mine", 8)


def test_rows_without_label_or_picture_are_named(flowers, hub_cache):
    dataset = as_dataset(flowers, label=[0, 0, 1, None, 2, 2])
    with pytest.raises(ValueError, match="mine: row 3 has no label"):
        hub.find_dataset_pictures(dataset, "mine", 8)
    dataset = as_dataset(flowers, image=[None] * 6)
    with pytest.raises(ValueError, match="mine: row 5 has no picture"):
        hub.find_dataset_pictures(dataset, "mine", 8).reader(np.array([5]))


def test_a_saved_set_is_told_by_its_content_wherever_it_lies(flowers, tmp_path, hub_cache):
    dataset = as_dataset(flowers)
    dataset.save_to_disk(tmp_path / "one")
    before = load_task(tmp_path / "one", size=16).fingerprint
    assert load_task(shutil.copytree(tmp_path / "one", tmp_path / "two"), size=16).fingerprint == before
    dataset.select([1, 0, 2, 3, 4, 5]).save_to_disk(tmp_path / "other")
    assert load_task(tmp_path / "other", size=16).fingerprint != before
