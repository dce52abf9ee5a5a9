"""A small text-to-image base from nothing: on captions, through the one loop, resumable."""

from __future__ import annotations

import pytest
import torch

from difftuning.config import TextToImageConfig
from difftuning.data.captions import caption_pictures
from difftuning.models.loading import load_pretrained
from difftuning.sampling import sample
from difftuning.training.pretrain_text_to_image import pretrain_text_to_image, untrained_text_to_image
from small import small_pretrained, small_task
from tests.training.helpers import contents

SIZES = {"width": 8, "num_heads": 2, "text_width": 16, "text_layers": 1, "max_tokens": 14}


def pretrain(folder, callbacks=(), **options):
    config = TextToImageConfig(**{"steps": 8, "batch_size": 8, "warmup_steps": 2, "checkpoint_every": 4, **SIZES, **options})
    source, autoencoder = small_task(size=30, flip=True), small_pretrained().autoencoder
    return pretrain_text_to_image(source, autoencoder, config, folder=folder, callbacks=callbacks, progress=False)


def test_training_goes_on_to_the_same_bits(tmp_path):
    pretrain(tmp_path / "straight")

    def stop(state):
        if state.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "broken", callbacks=[stop])
    pretrain(tmp_path / "broken")
    assert contents(tmp_path / "straight" / "model") == contents(tmp_path / "broken" / "model")
    model = load_pretrained(tmp_path / "straight" / "model")
    assert model.takes_prompts and sample(model, ["a shape 1"], steps=2).shape == (1, 3, 8, 8)


def test_both_text_encoder_and_unet_learn(tmp_path):
    config = TextToImageConfig(steps=40, **SIZES)
    start = untrained_text_to_image(small_task(size=30), small_pretrained().autoencoder, config, name="start").denoiser
    model = pretrain(tmp_path, steps=40, learning_rate=3e-3)
    for part in ("unet", "text_encoder"):
        pairs = zip(getattr(start, part).parameters(), getattr(model.denoiser, part).parameters())
        assert not any(torch.equal(before, after) for before, after in pairs if before.numel() > 1)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "history.csv").read_text().splitlines()[1:]]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_every_caption_fits_into_the_default_number_of_tokens():
    names = ["battery-charging", "picture-in-picture", "token or brand mark", "handwritten digit", "T-shirt"]
    source = small_task(size=10)
    denoiser = untrained_text_to_image(source, small_pretrained().autoencoder, TextToImageConfig(), name="names").denoiser
    images = torch.full((5, 3, 32, 32), -1.0)
    images[:, :, 4:28, 12:15] = 0.0
    tokens = denoiser.tokens(caption_pictures(images, names))
    assert denoiser.tokenizer.model_max_length == tokens.shape[1] == 16


@pytest.mark.parametrize("options", [{"width": 0}, {"max_tokens": 2}, {"label_drop": 1.0}, {"class_balance": 2.0}])
def test_wrong_settings_are_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name} must be"):
        TextToImageConfig(**options)
