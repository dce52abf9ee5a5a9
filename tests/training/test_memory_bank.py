"""A memory bank is the same bank however it came about, and a damaged one is noticed and mended."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.support.files import DamagedFileError
from difftuning.support.lock import FolderLock
from difftuning.training import memory_bank
from difftuning.training.memory_bank import MemoryBank, repair_bank, require_same_model
from small import SOURCE_NAMES, run_python, small_bank, small_pretrained

SHARDS = ["shard-00000.safetensors", "shard-00001.safetensors", "shard-00002.safetensors"]


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return small_pretrained()


@pytest.fixture(scope="module")
def finished(pretrained, tmp_path_factory) -> Path:
    """Twenty samples in shards of 8, 8 and 4."""
    folder = tmp_path_factory.mktemp("bank")
    small_bank(pretrained, folder)
    return folder


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "bank"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if how == "cut" else content[:-1] + bytes([content[-1] ^ 1]))


def test_a_bank_holds_its_samples_and_the_source_labels_in_equal_shares(pretrained, folder):
    bank = MemoryBank.load(folder)
    assert len(bank) == 20 and bank.latents.shape == (20, 4, 4, 4) and bank.latents.dtype == torch.float32
    assert bank.labels.dtype == torch.int64 and torch.bincount(bank.labels).tolist() == [4] * len(SOURCE_NAMES)
    assert bank.labels.tolist() != sorted(bank.labels.tolist())
    assert bool(bank.latents.isfinite().all()) and float(bank.latents.std()) > 0
    assert bank.verify() == []
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", *SHARDS]


def test_seed_and_recipe_alone_decide_the_content(pretrained, finished, tmp_path):
    again = small_bank(pretrained, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(finished)
    other = small_bank(pretrained, tmp_path / "other", seed=1)
    assert not torch.equal(again.latents, other.latents) and not torch.equal(again.labels, other.labels)


def test_the_samples_are_those_of_an_independent_ddim_loop(pretrained, finished):
    """Two steps, at t = 500 and t = 0, with guidance 1.5, written out from the starting noise."""
    from difftuning.support.random import seeded_generator

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


def test_labels_may_be_given_as_names_or_rows(pretrained, tmp_path):
    bank = small_bank(pretrained, tmp_path, size=3, labels=["hook", "ring", "ring"])
    assert bank.labels.tolist() == [4, 0, 0]
    assert torch.equal(MemoryBank.load(tmp_path).labels, bank.labels)


def test_a_bank_through_8_bit_pictures_is_what_such_pictures_encode_to(pretrained, finished, tmp_path):
    plain = MemoryBank.load(finished)
    bank = small_bank(pretrained, tmp_path, reencode=True)
    levels = ((plain.images(pretrained) + 1) * 127.5).round().to(torch.uint8)
    expected = pretrained.encode(levels.float() / 127.5 - 1)
    assert torch.allclose(bank.latents, expected, atol=1e-5) and torch.equal(bank.labels, plain.labels)


def test_the_pictures_of_a_bank_are_its_decoded_latents(pretrained, folder):
    bank = MemoryBank.load(folder)
    images = bank.images(pretrained, torch.tensor([3, 17]))
    assert torch.equal(images, pretrained.decode(bank.latents[[3, 17]])) and images.shape == (2, 3, 8, 8)


KILLED = """
import os, signal
from difftuning.training import memory_bank as memory
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
    real = memory.sample_latents
    def sample(*arguments, **options):
        latents = real(*arguments, **options)
        if os.path.exists(folder + "/shard-00000.safetensors"):
            kill()
        return latents
    memory.sample_latents = sample

def between_the_second_and_its_entry():
    real = memory.sha256
    memory.sha256 = lambda *parts: kill() if str(parts[0]).endswith("shard-00001.safetensors") else real(*parts)

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


def test_an_unfinished_bank_says_what_is_next_and_goes_on(pretrained, folder, finished):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["shards"][SHARDS[2]]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / SHARDS[2]).unlink()
    with pytest.raises(DamagedFileError, match="unfinished .shard-00002.*MemoryBank.sample again"):
        MemoryBank.load(folder)
    small_bank(pretrained, folder)
    assert contents(folder) == contents(finished)


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


@pytest.mark.parametrize("change", [
    lambda m: m["labels"].pop(), lambda m: m["labels"].__setitem__(0, (m["labels"][0] + 1) % 5), lambda m: m.pop("labels"),
    lambda m: m["recipe"].pop("seed"), lambda m: m["recipe"].update(colour=1), lambda m: m["shards"].update({"../x": "0"}),
    lambda m: m["recipe"].update(shard_size=0),
])  # fmt: skip
def test_an_altered_manifest_is_named(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedFileError, match="manifest.json is damaged") as caught:
        MemoryBank.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field, value", [("guidance", 4.0), ("steps", 3), ("seed", 8), ("sampler", "ddpm"), ("reencode", True)])
def test_an_altered_recipe_is_named(folder, field, value):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["recipe"][field] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedFileError, match="manifest.json is damaged .*its recipe was altered"):
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


def test_a_bank_that_has_no_shard_yet_claims_no_folder(pretrained, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patched:
        real = memory_bank.sample_latents
        patched.setattr(
            memory_bank, "sample_latents", lambda model, labels, **options: fail() if len(labels) else real(model, labels, **options)
        )
        with pytest.raises(MemoryError):
            small_bank(pretrained, tmp_path / "bank")
    assert not (tmp_path / "bank").exists()
    with monkeypatch.context() as patched:
        patched.setattr(memory_bank, "save_tensors", fail)
        with pytest.raises(MemoryError):
            small_bank(pretrained, tmp_path / "bank")
    assert len(small_bank(pretrained, tmp_path / "bank", seed=3)) == 20


def test_a_bank_that_another_process_samples_is_left_to_it(pretrained, folder):
    damage(folder / SHARDS[1], "missing")
    with FolderLock(folder), pytest.raises(BlockingIOError, match="is in use by"):
        repair_bank(folder, pretrained)
    assert repair_bank(folder, pretrained) == [SHARDS[1]]


def test_a_list_of_checksums_that_is_none_is_named(folder):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["shards"][SHARDS[0]] = 3
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DamagedFileError, match="manifest.json is damaged: its list of checksums is none"):
        MemoryBank.load(folder)


def test_resume_false_and_foreign_folders_are_refused(pretrained, folder, tmp_path):
    with pytest.raises(FileExistsError, match="already holds a bank"):
        small_bank(pretrained, folder, resume=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.png").write_bytes(b"")
    with pytest.raises(FileExistsError, match="holds something else"):
        small_bank(pretrained, tmp_path / "photos")


def test_a_finished_bank_opens_without_the_sampler(pretrained, folder, monkeypatch):
    monkeypatch.setattr("difftuning.training.memory_bank._write_shard", lambda *_: pytest.fail("sampled again"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: collections.namedtuple("Usage", "total used free")(10, 10, 0))
    assert len(small_bank(pretrained, folder)) == 20


@pytest.mark.parametrize("options, message", [
    ({"size": 0}, "size and shard_size"), ({"shard_size": 0}, "size and shard_size"), ({"steps": 0}, "steps must be"),
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


def test_a_repair_that_does_not_give_the_recorded_bits_says_so(pretrained, folder):
    """As on another machine: the manifest's digest is of a shard that this one does not sample."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][SHARDS[0]] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
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


def test_the_fingerprint_tells_contents_apart(folder):
    bank = MemoryBank.load(folder)
    shuffled = MemoryBank(folder, bank.recipe, bank.latents.flip(0), bank.labels)
    assert bank.fingerprint == MemoryBank.load(folder).fingerprint != shuffled.fingerprint


def test_a_bank_of_what_is_no_number_is_named(folder):
    bank = MemoryBank.load(folder)
    latents = bank.latents.clone()
    latents[[3, 7], 0, 0, 0] = torch.tensor([torch.nan, torch.inf])
    with pytest.raises(ValueError, match="^2 of 20 samples of the bank in .* hold NaN or infinity: sample it anew"):
        MemoryBank(folder, bank.recipe, latents, bank.labels)


def test_a_bank_whose_latents_and_labels_do_not_match_is_named(folder):
    bank = MemoryBank.load(folder)
    with pytest.raises(ValueError, match=r"a bank is latents \(N, C, h, w\) and labels \(N,\), got \(20, 4, 4, 4\) and \(19,\)"):
        MemoryBank(folder, bank.recipe, bank.latents, bank.labels[1:])


def test_a_bank_in_half_precision_has_a_fingerprint(folder):
    bank = MemoryBank.load(folder)
    assert MemoryBank(folder, bank.recipe, bank.latents.bfloat16(), bank.labels).fingerprint != bank.fingerprint


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

    monkeypatch.setattr("difftuning.training.memory_bank.progress_bar", progress_bar)
    small_bank(pretrained, tmp_path / "bank", size=4, steps=5)  # one shard
    assert len(moved) == 5


def test_a_bank_that_no_disk_could_hold_is_refused_before_its_labels_are_made(pretrained, tmp_path):
    with pytest.raises(OSError, match="needs .* MB but its disk has"):
        MemoryBank.sample(pretrained, 10**12, folder=tmp_path / "bank", steps=2)
    assert not (tmp_path / "bank").exists()
