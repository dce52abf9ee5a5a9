"""manifest.json tells one bank from another, and damage to it is named."""

from __future__ import annotations

import pytest

from difftuning.support.files import DamagedFileError
from difftuning.training.memory_bank import MemoryBank, repair_bank
from small import small_bank
from tests.training.memory_bank.helpers import SHARDS, contents, damage, edit_manifest


def test_an_unfinished_bank_says_what_is_next_and_goes_on(pretrained, folder, finished):
    edit_manifest(folder, lambda manifest: manifest["shards"].pop(SHARDS[2]))
    (folder / SHARDS[2]).unlink()
    with pytest.raises(DamagedFileError, match="unfinished .shard-00002.*MemoryBank.sample again"):
        MemoryBank.load(folder)
    small_bank(pretrained, folder)
    assert contents(folder) == contents(finished)


@pytest.mark.parametrize("change", [
    lambda m: m["labels"].pop(), lambda m: m["labels"].__setitem__(0, (m["labels"][0] + 1) % 5), lambda m: m.pop("labels"),
    lambda m: m["recipe"].pop("seed"), lambda m: m["recipe"].update(colour=1), lambda m: m["shards"].update({"../x": "0"}),
    lambda m: m["recipe"].update(shard_size=0),
])  # fmt: skip
def test_an_altered_manifest_is_named(folder, change):
    edit_manifest(folder, change)
    with pytest.raises(DamagedFileError, match="manifest.json is damaged") as caught:
        MemoryBank.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field, value", [("guidance", 4.0), ("steps", 3), ("seed", 8), ("sampler", "ddpm"), ("reencode", True)])
def test_an_altered_recipe_is_named(folder, field, value):
    edit_manifest(folder, lambda manifest: manifest["recipe"].update({field: value}))
    with pytest.raises(DamagedFileError, match="manifest.json is damaged .*its recipe was altered"):
        MemoryBank.load(folder)


def test_a_list_of_checksums_that_is_none_is_named(folder):
    edit_manifest(folder, lambda manifest: manifest["shards"].update({SHARDS[0]: 3}))
    with pytest.raises(DamagedFileError, match="manifest.json is damaged: its list of checksums is none"):
        MemoryBank.load(folder)


def test_a_cut_manifest_is_named(pretrained, folder):
    damage(folder / "manifest.json", "cut")
    for use in (MemoryBank.load, lambda where: small_bank(pretrained, where), lambda where: repair_bank(where, pretrained)):
        with pytest.raises(DamagedFileError, match="manifest.json"):
            use(folder)


def test_a_folder_without_a_bank_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no memory bank in"):
        MemoryBank.load(tmp_path / "nothing")


@pytest.mark.parametrize("options, field", [
    ({"seed": 1}, "seed was 0, is 1"), ({"size": 21}, "size was 20, is 21"), ({"guidance": 2.0}, "guidance was 1.5, is 2.0"),
    ({"steps": 3}, "steps was 2, is 3"), ({"sampler": "ddpm"}, "sampler was 'ddim', is 'ddpm'"), ({"labels": [0] * 20}, "labels was"),
    ({"reencode": True}, "reencode was False, is True"), ({"mixed_precision": "bf16"}, "mixed_precision was 'no', is 'bf16'"), ({"shard_size": 5}, "shard_size was 8, is 5"),
])  # fmt: skip
def test_another_bank_in_the_folder_is_refused_with_what_differs(pretrained, folder, finished, options, field):
    with pytest.raises(ValueError, match="holds another bank") as caught:
        small_bank(pretrained, folder, **options)
    assert field in str(caught.value) and "\n" not in str(caught.value)
    assert contents(folder) == contents(finished)


def test_resume_false_and_foreign_folders_are_refused(pretrained, folder, tmp_path):
    with pytest.raises(FileExistsError, match="already holds a bank"):
        small_bank(pretrained, folder, resume=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.png").write_bytes(b"")
    with pytest.raises(FileExistsError, match="holds something else"):
        small_bank(pretrained, tmp_path / "photos")
