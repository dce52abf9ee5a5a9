"""The autoencoder: how it is trained, and that standardising its latents changes nothing it decodes."""

import copy
import math

import autoencoding
import pytest
import torch
from autoencoding import as_images, build_autoencoder, psnr, standardise_latents, train_autoencoder

from difftuning.config import PretrainingConfig
from difftuning.models.pretrained import weights_digest
from difftuning.training.pretrain import pretrain
from small import small_pretrained, small_task

PICTURES = torch.randint(0, 256, (24, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def fresh():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_autoencoder(channels=(8, 8, 8))


def latents_of(autoencoder):
    with torch.no_grad():
        return autoencoder.encode(as_images(PICTURES)).latent_dist


def test_psnr_of_known_pictures():
    """A decoder that always answers black is off by exactly the pictures' own values."""
    autoencoder = fresh().eval()
    with torch.no_grad():
        autoencoder.decoder.conv_out.weight.zero_()
        autoencoder.decoder.conv_out.bias.fill_(-1)
    error = (PICTURES.double() / 255).square().mean().item()
    assert psnr(autoencoder, PICTURES) == pytest.approx(-10 * math.log10(error), abs=1e-3)


def test_standardising_gives_unit_latents_and_changes_nothing_that_is_decoded():
    before = fresh().eval()
    after = copy.deepcopy(before)
    standardise_latents(after, PICTURES)
    old, new = latents_of(before), latents_of(after)
    torch.testing.assert_close(new.mode().mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(new.mode().std((0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    # the posterior's spread is scaled along with its mean
    ratio = old.mode().std((0, 2, 3)).reshape(1, 4, 1, 1)
    torch.testing.assert_close(new.std * ratio, old.std, atol=1e-5, rtol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(after.decode(new.mode()).sample, before.decode(old.mode()).sample, atol=1e-4, rtol=0)
    assert after.config.scaling_factor == 1


def test_interrupted_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    whole = train_autoencoder(fresh(), PICTURES, folder=tmp_path / "whole", steps=4, checkpoint_every=2)
    honest, calls = autoencoding._loss, []

    def stops(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return honest(*arguments)

    monkeypatch.setattr(autoencoding, "_loss", stops)
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(fresh(), PICTURES, folder=tmp_path / "cut", steps=4, checkpoint_every=2)
    resumed = train_autoencoder(fresh(), PICTURES, folder=tmp_path / "cut", steps=4, checkpoint_every=2)
    assert weights_digest(resumed) == weights_digest(whole)
    curves = [sorted((tmp_path / run / "checkpoints").iterdir())[-1] / "history.csv" for run in ("whole", "cut")]
    assert curves[0].read_text() == curves[1].read_text()
    with pytest.raises(ValueError, match="pictures was"):
        train_autoencoder(fresh(), PICTURES.flip(0), folder=tmp_path / "cut", steps=4, checkpoint_every=2)


GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_autoencoder_and_denoiser_are_made_on_the_device(tmp_path, device):
    pictures = torch.randint(0, 256, (12, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    autoencoder = train_autoencoder(small_pretrained().autoencoder.to(device), pictures, folder=tmp_path / "ae", steps=2)
    standardise_latents(autoencoder, pictures)
    assert autoencoder.device.type == device and math.isfinite(psnr(autoencoder, pictures))
    small = PretrainingConfig(steps=2, width=32, num_heads=2, num_layers=1, num_labels=20, batch_size=8)
    model = pretrain(small_task(), autoencoder, small, folder=tmp_path / "dit", device=device, progress=False)
    assert model.device.type == device
