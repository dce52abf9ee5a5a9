"""What a memory bank holds, and what is refused before anything is sampled."""

from __future__ import annotations

import collections
import shutil

import pytest
import torch

from difftuning.training.memory_bank import MemoryBank, shards
from small import SOURCE_NAMES, small_bank
from tests.training.memory_bank.helpers import SHARDS


def test_a_bank_holds_its_samples_and_the_source_labels_in_equal_shares(pretrained, folder):
    bank = MemoryBank.load(folder)
    assert len(bank) == 20 and bank.latents.shape == (20, 4, 4, 4) and bank.latents.dtype == torch.float32
    assert bank.labels.dtype == torch.int64 and torch.bincount(bank.labels).tolist() == [4] * len(SOURCE_NAMES)
    assert bank.labels.tolist() != sorted(bank.labels.tolist())
    assert bool(bank.latents.isfinite().all()) and float(bank.latents.std()) > 0
    assert bank.verify() == []
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", *SHARDS]


def test_labels_may_be_given_as_names_or_rows(pretrained, tmp_path):
    bank = small_bank(pretrained, tmp_path, size=3, labels=["hook", "ring", "ring"])
    assert bank.labels.tolist() == [4, 0, 0]
    assert torch.equal(MemoryBank.load(tmp_path).labels, bank.labels)


def test_the_pictures_of_a_bank_are_its_decoded_latents(pretrained, folder):
    bank = MemoryBank.load(folder)
    images = bank.images(pretrained, torch.tensor([3, 17]))
    assert torch.equal(images, pretrained.decode(bank.latents[[3, 17]])) and images.shape == (2, 3, 8, 8)


def test_a_finished_bank_opens_without_the_sampler(pretrained, folder, monkeypatch):
    monkeypatch.setattr(shards, "_sample_shard", lambda *_: pytest.fail("sampled again"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: collections.namedtuple("Usage", "total used free")(10, 10, 0))
    assert len(small_bank(pretrained, folder)) == 20


@pytest.mark.parametrize("options, message", [
    ({"size": 0}, "size"), ({"shard_size": 0}, "shard_size"), ({"steps": 0}, "steps must be"),
    ({"sampler": "euler"}, "unknown sampler 'euler'"), ({"labels": [0, 1]}, "one label for each of the 20 samples, got 2"),
    ({"guidance": float("nan")}, "guidance must be a finite number"), ({"size": 1.5}, "size must be a whole number, got 1.5"), ({"seed": None}, "seed must be"), ({"labels": [13] * 20}, "label 13 is outside"), ({"labels": ["moon"] * 20}, "unknown label 'moon'"),
])  # fmt: skip
def test_wrong_settings_are_named_and_leave_no_folder(pretrained, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        small_bank(pretrained, tmp_path / "bank", **options)
    assert not (tmp_path / "bank").exists()


def test_a_full_disk_is_an_error_before_anything_is_written(pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: collections.namedtuple("Usage", "total used free")(10, 10, 0))
    with pytest.raises(OSError, match=r"\d [kM]B free"):
        small_bank(pretrained, tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


def test_the_fingerprint_tells_contents_apart(folder):
    bank = MemoryBank.load(folder)
    shuffled = MemoryBank(folder, bank.recipe, bank.latents.flip(0), bank.labels)
    half = MemoryBank(folder, bank.recipe, bank.latents.bfloat16(), bank.labels)
    assert bank.fingerprint == MemoryBank.load(folder).fingerprint not in (shuffled.fingerprint, half.fingerprint)


def test_a_bank_of_what_is_no_number_or_of_other_labels_is_named(folder):
    bank = MemoryBank.load(folder)
    latents = bank.latents.clone()
    latents[[3, 7], 0, 0, 0] = torch.tensor([torch.nan, torch.inf])
    with pytest.raises(ValueError, match="^2 of 20 samples of the bank in .* hold NaN or infinity: sample it anew"):
        MemoryBank(folder, bank.recipe, latents, bank.labels)
    with pytest.raises(ValueError, match=r"a bank is latents \(N, C, h, w\) and labels \(N,\), got \(20, 4, 4, 4\) and \(19,\)"):
        MemoryBank(folder, bank.recipe, bank.latents, bank.labels[1:])


def test_a_bank_that_no_disk_could_hold_is_refused_before_its_labels_are_made(pretrained, tmp_path):
    with pytest.raises(OSError, match="needs .* MB but its disk has"):
        MemoryBank.sample(pretrained, 10**12, folder=tmp_path / "bank", steps=2)
    assert not (tmp_path / "bank").exists()
