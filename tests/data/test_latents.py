"""Latents are the autoencoder's, cached where that pays, and rebuilt where the cache is damaged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from difftuning.data import cache as cache_module
from difftuning.data.latents import encode_latents
from difftuning.data.tasks import load_task


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
    with pytest.warns(UserWarning, match="the latents are made again"):
        assert torch.equal(encode_latents(encoder, task, cache=cache)["latents"], expected)
    seen = encoder.seen
    assert torch.equal(encode_latents(encoder, task, cache=cache)["latents"], expected) and encoder.seen == seen


def test_small_tasks_touch_no_disk_and_large_ones_use_the_default_cache(world, encoder, cache, monkeypatch):
    task = load_task("digits")
    encode_latents(encoder, task)
    assert not cache_module.cache_folder().exists()
    monkeypatch.setattr(cache_module, "SMALL_TASK", 20)
    encode_latents(encoder, task)
    assert [p.suffix for p in (cache_module.cache_folder() / "latents").iterdir()] == [".safetensors"]


def test_progress_shows_only_for_large_tasks(world, encoder, cache, monkeypatch, capfd):
    monkeypatch.delenv("DIFFTUNING_PROGRESS", raising=False)
    task = load_task("digits")
    encode_latents(encoder, task)
    monkeypatch.setattr(cache_module, "SMALL_TASK", 10)
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
