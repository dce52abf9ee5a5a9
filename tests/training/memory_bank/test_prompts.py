"""A memory bank of a text-to-image model: prompts in place of labels."""

from __future__ import annotations

import json

import pytest
import torch

from difftuning.sampling import sample_latents
from difftuning.support.files import DamagedFileError
from difftuning.training.memory_bank import MemoryBank
from small import small_bank, small_pretrained, small_text_to_image

PROMPTS = ["a small shape", "a bright shape"] * 5


@pytest.fixture(scope="module")
def base():
    return small_text_to_image()


@pytest.fixture
def bank(base, tmp_path) -> MemoryBank:
    return small_bank(base, tmp_path / "bank", size=10, labels=PROMPTS)


def test_labels_are_places_among_the_prompts(base, bank):
    assert [bank.prompts[label] for label in bank.labels.tolist()] == PROMPTS and len(bank.prompts) == 2
    again = MemoryBank.load(bank.folder)
    assert again.prompts == bank.prompts and again.fingerprint == bank.fingerprint and torch.equal(again.latents, bank.latents)


def test_its_samples_hear_their_prompts(base, bank, tmp_path):
    other = small_bank(base, tmp_path / "other", size=10, labels=PROMPTS[1:] + PROMPTS[:1])
    assert not torch.allclose(bank.latents, other.latents) and bank.fingerprint != other.fingerprint
    assert sample_latents(base, PROMPTS[:2], steps=2).shape == bank.latents[:2].shape


def test_a_shard_is_sampled_again_to_the_same_bits(base, bank):
    shard = bank.folder / "shard-00001.safetensors"
    whole = shard.read_bytes()
    shard.unlink()
    assert bank.repair(base) == [shard.name] and shard.read_bytes() == whole


def test_an_altered_prompt_is_noticed(bank):
    path = bank.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["prompts"][0] = "a dim shape"
    path.write_text(json.dumps(manifest))
    with pytest.raises(DamagedFileError, match="its labels were altered"):
        MemoryBank.load(bank.folder)


def test_prompts_are_needed_and_only_where_they_are_heard(base, tmp_path):
    with pytest.raises(ValueError, match="give labels=, a prompt for each sample$"):
        small_bank(base, tmp_path / "none")
    with pytest.raises(ValueError, match="got 7: give a list of sentences"):
        small_bank(base, tmp_path / "numbers", size=1, labels=[7])
    with pytest.raises(ValueError, match="one label for each of the 20 samples, got 10"):
        small_bank(base, tmp_path / "few", labels=PROMPTS)
    with pytest.raises(ValueError, match="unknown label 'a small shape'"):
        small_bank(small_pretrained(), tmp_path / "labels", size=1, labels=["a small shape"])
    assert not list(tmp_path.iterdir())


def test_banks_of_labels_keep_their_manifest(tmp_path):
    bank = small_bank(small_pretrained(), tmp_path / "bank")
    assert bank.prompts is None and set(json.loads((bank.folder / "manifest.json").read_text())) == {"recipe", "sha256", "labels", "shards"}
