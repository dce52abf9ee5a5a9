"""Tasks are found by name, path or hub id, read what is asked for, and say in one line what is wrong."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from difftuning.data import tasks
from difftuning.data.tasks import list_tasks, load_source, load_task
from difftuning.support.files import DamagedFileError
from tests.data.helpers import grey, one_line


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
    with pytest.raises(ValueError, match="has no split 'test': it has train, heldout"):
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


def test_only_a_name_with_a_slash_is_asked_of_the_hub_and_then_named(world, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError) as error:
        load_task("nobody/zzqx")
    assert "no task, folder or npz file 'nobody/zzqx', and the datasets library cannot load 'nobody/zzqx'" in one_line(error)
    monkeypatch.setattr("difftuning.data.hub.require_on_hub", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(FileNotFoundError, match="^no task, folder or npz file 'mnist'; the tiny world has digits, footwear$"):
        load_task("mnist")
    with pytest.raises(FileNotFoundError, match="no task, folder or npz file './nowhere/at/all'$"):
        load_task("./nowhere/at/all")


def test_a_name_of_the_world_wins_over_a_folder_unless_written_as_a_path(world, flowers, monkeypatch):
    monkeypatch.chdir(flowers.parent)
    flowers.rename("digits")
    assert load_task("digits").class_names[0] == "digits 0"
    assert load_task("./digits").class_names == load_task(Path("digits")).class_names == ["aster", "rose", "tulip"]


def test_an_unknown_split_is_refused_with_the_choices(world):
    with pytest.raises(ValueError, match="has no split 'tests': it has train, validation, test"):
        load_task("digits", split="tests")


@pytest.mark.parametrize("size", [0, -8, 32.0, True])
def test_a_size_that_is_no_number_of_pixels_is_refused(world, size):
    with pytest.raises(ValueError, match=f"got {size!r}"):
        load_task("digits", size=size)


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
    monkeypatch.setattr(tasks, "READ_ALL_LIMIT", 1000)
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


def test_an_empty_name_is_not_the_folder_one_stands_in(flowers, monkeypatch):
    monkeypatch.chdir(flowers)
    with pytest.raises(FileNotFoundError, match="no task '' .*digits"):
        load_task("")
    assert load_task(".", size=8).name == "flowers"


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr("difftuning.data.tasks.load_hub_pictures", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(FileNotFoundError, match="no task, folder or npz file 'mine/digts'"):
        load_task("mine/digts")


def test_importing_data_brings_in_torch_and_numpy_only():
    code = "import sys, difftuning.data.tasks, difftuning.data.latents; print([m for m in ('PIL', 'datasets', 'tqdm', 'diffusers') if m in sys.modules])"
    torch_alone = "import sys, torch, numpy; print([m for m in ('PIL', 'datasets', 'tqdm', 'diffusers') if m in sys.modules])"
    found, expected = (
        subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True).stdout for c in (code, torch_alone)
    )
    assert found == expected


@pytest.mark.parametrize("name", ["game icons", "digits "])
def test_a_name_with_a_blank_gets_its_nearest_names(name):
    with pytest.raises(FileNotFoundError, match="did you mean '(game_icons|digits)'.*the tiny world has"):
        load_task(name)


def test_sizes_of_numpy_are_sizes():
    assert load_task("digits", size=np.int64(16)).image_size == 16


def test_two_classes_of_one_name_are_refused(tmp_path):
    alike = ["Caf\u00e9", "Cafe\u0301"]
    np.savez(tmp_path / "set.npz", images=grey(2), labels=np.array([0, 1]), class_names=np.array(alike))
    with pytest.raises(ValueError, match="set has two classes named 'Caf\u00e9' .numbers 0 and 1.; rename one of them"):
        load_task(tmp_path / "set.npz")


def test_class_names_have_composed_accents_whatever_they_are_kept_in(tmp_path):
    np.savez(tmp_path / "set.npz", images=grey(2), labels=np.array([0, 1]), class_names=np.array(["Cafe\u0301", "Tee"]))
    assert load_task(tmp_path / "set.npz").class_names == ["Caf\u00e9", "Tee"]
