"""A shard is the same bits however it came about, and a damaged one is mended."""

from __future__ import annotations

import contextlib
import os

import pytest
import torch

from difftuning.models.loading import load_pretrained
from difftuning.support.files import DamagedFileError
from difftuning.support.lock import FolderLock
from difftuning.support.random import seeded_generator
from difftuning.training.memory_bank import MemoryBank, repair_bank, require_same_model, shards
from small import run_python, small_bank, small_pretrained
from tests.training.memory_bank.helpers import SHARDS, contents, damage, edit_manifest


def test_seed_and_recipe_alone_decide_the_content(pretrained, finished, tmp_path):
    again = small_bank(pretrained, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(finished)
    other = small_bank(pretrained, tmp_path / "other", seed=1)
    assert not torch.equal(again.latents, other.latents) and not torch.equal(again.labels, other.labels)


def test_the_samples_are_those_of_an_independent_ddim_loop(pretrained, finished):
    """Two steps, at t = 500 and t = 0, with guidance 1.5, written out from the starting noise."""
    bank = MemoryBank.load(finished)
    labels = bank.labels[8:16]
    seeds = torch.randint(2**62, (8,), generator=seeded_generator(0, "bank shard", 1)).tolist()
    x = torch.stack([torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    a = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    with torch.no_grad():
        for t, left in ((500, float(a[0])), (0, 1.0)):
            times, nulls = torch.full((8,), t), torch.full((8,), 12)
            u, c = (pretrained.denoiser(x, times, rows)[:, :4] for rows in (nulls, labels))
            eps, now = u + 1.5 * (c - u), float(a[t])
            x_0 = (x - (1 - now) ** 0.5 * eps) / now**0.5
            x = left**0.5 * x_0 + (1 - left) ** 0.5 * eps
    assert torch.allclose(bank.latents[8:16], x, rtol=1e-3, atol=1e-4)


def test_a_bank_through_8_bit_pictures_is_what_such_pictures_encode_to(pretrained, finished, tmp_path):
    plain = MemoryBank.load(finished)
    bank = small_bank(pretrained, tmp_path, reencode=True)
    levels = ((plain.images(pretrained) + 1) * 127.5).round().to(torch.uint8)
    expected = pretrained.encode(levels.float() / 127.5 - 1)
    assert torch.allclose(bank.latents, expected, atol=1e-5) and torch.equal(bank.labels, plain.labels)


KILLED = """
import os, signal
from difftuning.training.memory_bank import shards
from small import small_bank, small_pretrained
pretrained, folder = small_pretrained(), sys.argv[1]

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def run(prepare):
    child = os.fork()
    if child == 0:
        prepare()
        small_bank(pretrained, folder)
        os._exit(0)
    return os.waitpid(child, 0)[1]

def while_sampling_the_second():
    real = shards.sample_latents
    def sample(*arguments, **options):
        latents = real(*arguments, **options)
        if os.path.exists(folder + "/shard-00000.safetensors"):
            kill()
        return latents
    shards.sample_latents = sample

def between_the_second_and_its_entry():
    real = shards.sha256
    shards.sha256 = lambda *parts: kill() if str(parts[0]).endswith("shard-00001.safetensors") else real(*parts)

def while_writing_the_third():
    import safetensors.torch
    real = safetensors.torch.save_file
    def save_file(tensors, path):
        real(tensors, path)
        if path.name == "shard-00002.safetensors":
            open(path, "r+b").truncate(100)
            kill()
    safetensors.torch.save_file = save_file

for prepare in (while_sampling_the_second, between_the_second_and_its_entry, while_writing_the_third):
    assert run(prepare) == signal.SIGKILL, prepare
assert run(lambda: None) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_a_bank_killed_again_and_again_ends_as_the_same_bytes(finished, tmp_path):
    run_python(KILLED, tmp_path)
    assert contents(tmp_path) == contents(finished)


@pytest.mark.parametrize("how", ["cut", "altered", "missing"])
def test_a_damaged_shard_is_named_and_sampled_again_alone(pretrained, folder, finished, how):
    bank = MemoryBank.load(folder)
    damage(folder / SHARDS[1], how)
    damage(folder / SHARDS[2], how)
    untouched = (folder / SHARDS[0]).stat().st_mtime_ns
    assert bank.verify() == SHARDS[1:]
    with pytest.raises(
        DamagedFileError,
        match=f"{SHARDS[1]} is missing, cut off or altered: repair it with `difftuning bank --repair` or difftuning.training.memory_bank.repair_bank",
    ) as caught:
        MemoryBank.load(folder)
    assert "\n" not in str(caught.value)
    assert (bank.repair if how == "cut" else lambda model: repair_bank(folder, model))(pretrained) == SHARDS[1:]
    assert contents(folder) == contents(finished) and bank.verify() == []
    assert (folder / SHARDS[0]).stat().st_mtime_ns == untouched
    assert torch.equal(MemoryBank.load(folder).latents, bank.latents)


def test_a_bank_that_has_no_shard_yet_claims_no_folder(pretrained, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(shards, "sample_latents", fail)
        with pytest.raises(MemoryError):
            small_bank(pretrained, tmp_path / "bank")
    assert not (tmp_path / "bank").exists()
    with monkeypatch.context() as patched:
        patched.setattr(shards, "save_tensors", fail)
        with pytest.raises(MemoryError):
            small_bank(pretrained, tmp_path / "bank")
    assert len(small_bank(pretrained, tmp_path / "bank", seed=3)) == 20


def test_a_bank_that_another_process_samples_is_left_to_it(pretrained, folder):
    damage(folder / SHARDS[1], "missing")
    with FolderLock(folder), pytest.raises(BlockingIOError, match="is in use by"):
        repair_bank(folder, pretrained)
    assert repair_bank(folder, pretrained) == [SHARDS[1]]


def test_a_repair_that_does_not_give_the_recorded_bits_says_so(pretrained, folder):
    """As on another machine: the manifest's digest is of a shard that this one does not sample."""
    edit_manifest(folder, lambda manifest: manifest["shards"].update({SHARDS[0]: "0" * 64}))
    with pytest.warns(UserWarning, match=f"{SHARDS[0]} is whole again but differs in bits"):
        assert repair_bank(folder, pretrained) == SHARDS[:1]
    assert MemoryBank.load(folder).verify() == []


def test_a_bank_of_another_model_is_not_repaired_with_this_one(folder):
    damage(folder / SHARDS[1], "missing")
    with pytest.raises(ValueError, match="was sampled from another model"):
        repair_bank(folder, small_pretrained(seed=1))
    with pytest.raises(ValueError, match=r"holds latents \(4, 4, 4\), small works on \(4, 8, 8\)"):
        repair_bank(folder, small_pretrained(side=8))


def test_a_bank_in_mixed_precision_is_the_models_own_and_one_of_its_rounded_copy_is_not(tmp_path, pretrained):
    bank = small_bank(pretrained, tmp_path / "mixed", mixed_precision="bf16")
    exact = small_bank(pretrained, tmp_path / "exact")
    assert bank.latents.dtype == torch.float32 and not torch.equal(bank.latents, exact.latents)
    torch.testing.assert_close(bank.latents, exact.latents, atol=0.1, rtol=0.1)
    require_same_model(bank.recipe, pretrained, bank.folder)
    pretrained.save(tmp_path / "model")
    rounded = load_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="loaded in another precision"):
        require_same_model(bank.recipe, rounded, bank.folder)


def test_the_bar_moves_within_a_single_shard(pretrained, tmp_path, monkeypatch):
    moved = []

    class Bar(contextlib.nullcontext):
        def update(self):
            moved.append(1)

    def progress_bar(items, description, *, total, shown):
        assert (items, description, total) == (None, "memory bank", 5)
        bar = Bar()
        bar.enter_result = bar
        return bar

    monkeypatch.setattr(shards, "progress_bar", progress_bar)
    small_bank(pretrained, tmp_path / "bank", size=4, steps=5)  # one shard
    assert len(moved) == 5
