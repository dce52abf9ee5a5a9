import dataclasses
import shutil
from collections import namedtuple

import pytest
import torch
from diffusers import DDIMScheduler

from difftuning.config import PretrainingConfig
from difftuning.support.files import DamagedFileError, load_tensors
from difftuning.training.pretrain import balanced_distribution, pretrain, untrained
from small import run_python, small_pretrained, small_task

TINY = {"width": 32, "num_heads": 2, "num_layers": 1, "num_labels": 20, "batch_size": 8, "warmup_steps": 2}
KILLED = """
import os, signal
from pathlib import Path
from small import small_pretrained, small_task
from difftuning.config import PretrainingConfig
from difftuning.training.pretrain import pretrain
folder, kill_at = Path(sys.argv[1]), int(sys.argv[2])
kill = lambda state: os.kill(os.getpid(), signal.SIGKILL) if state.step == kill_at else None
pretrain(small_task(), small_pretrained().autoencoder, PretrainingConfig(steps=7, checkpoint_every=2, width=32, num_heads=2,
         num_layers=1, num_labels=20, batch_size=8, warmup_steps=2), folder=folder, callbacks=[kill], progress=False)
"""


@pytest.fixture(scope="module")
def autoencoder():
    return small_pretrained().autoencoder


def weights(folder):
    return load_tensors(folder / "model" / "transformer" / "diffusion_pytorch_model.safetensors")


def test_pretraining_killed_and_resumed_gives_the_same_bits(tmp_path):
    run_python(KILLED, tmp_path / "whole", 99)
    for kill_at in (3, 5, 6):
        run_python(KILLED, tmp_path / "killed", kill_at, check=False)
    run_python(KILLED, tmp_path / "killed", 99)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
    losses = [(tmp_path / name / "history.csv").read_text().splitlines() for name in ("whole", "killed")]
    assert [line.split(",")[:2] for line in losses[0]] == [line.split(",")[:2] for line in losses[1]]


def test_training_lowers_the_loss_from_that_of_predicting_nothing(autoencoder, tmp_path):
    """At its start the network predicts zero noise, so the loss is the noise's variance, 1 and a little for the bound."""
    config = PretrainingConfig(steps=60, learning_rate=3e-3, **TINY)
    pretrain(small_task(), autoencoder, config, folder=tmp_path, progress=False)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "history.csv").read_text().splitlines()[1:]]
    assert losses[0] == pytest.approx(1, abs=0.15)
    assert sum(losses[-10:]) / 10 < 0.9 * losses[0]


def test_rows_without_a_class_act_as_no_label(autoencoder, tmp_path):
    model = pretrain(small_task(), autoencoder, PretrainingConfig(steps=3, **TINY), folder=tmp_path, progress=False)
    x, t = torch.randn(2, *model.latent_shape), torch.tensor([10, 900])
    with torch.no_grad():
        free = model.denoiser(x, t, torch.tensor([model.first_free_label, model.null_label - 1]))
        null = model.denoiser(x, t, torch.full((2,), model.null_label))
    assert torch.equal(free, null) and model.first_free_label == 3


def test_a_start_is_where_training_begins(autoencoder, tmp_path):
    first = pretrain(small_task(), autoencoder, PretrainingConfig(steps=3, **TINY), folder=tmp_path / "a", progress=False)
    still = PretrainingConfig(steps=1, learning_rate=1e-12, **TINY)
    second = pretrain(small_task(), autoencoder, still, folder=tmp_path / "b", start=first, progress=False)
    for one, other in zip(first.denoiser.parameters(), second.denoiser.parameters()):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_start_for_pictures_of_another_size_is_refused(autoencoder, tmp_path):
    first = pretrain(small_task(), autoencoder, PretrainingConfig(steps=1, **TINY), folder=tmp_path / "a", progress=False)
    with pytest.raises(ValueError, match=r"start works on latents \(4, 4, 4\), pictures of 16 pixels give \(4, 8, 8\)"):
        pretrain(small_task(side=16), autoencoder, PretrainingConfig(steps=1, **TINY), folder=tmp_path / "b", start=first, progress=False)
    assert not (tmp_path / "b").exists()


def test_a_class_of_n_pictures_is_drawn_in_proportion_to_a_power_of_n():
    labels = torch.tensor([0] * 16 + [1] * 4)
    shares = {power: balanced_distribution(labels, power)[labels == 0].sum() for power in (0.0, 0.5, 1.0)}
    assert shares[0.0] == pytest.approx(1 / 2) and shares[0.5] == pytest.approx(4 / 6) and shares[1.0] == pytest.approx(16 / 20)


def test_more_classes_than_label_rows_is_an_error(autoencoder, tmp_path):
    with pytest.raises(ValueError, match="3 labels do not fit into a table whose null row is 2"):
        pretrain(small_task(), autoencoder, PretrainingConfig(steps=1, **(TINY | {"num_labels": 2})), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_loss_weight_is_p2s(autoencoder, tmp_path):
    """At its start the network predicts zero noise, so each picture's noise term is its weight times the mean of noise squared."""
    gamma, batch = 1.0, 400
    config = PretrainingConfig(steps=1, p2_gamma=gamma, snr_scale=1, **(TINY | {"batch_size": batch}))
    losses = {}
    for name, settings in (("weighted", config), ("plain", dataclasses.replace(config, p2_gamma=0.0))):
        pretrain(small_task(), autoencoder, settings, folder=tmp_path / name, progress=False)
        losses[name] = float((tmp_path / name / "history.csv").read_text().splitlines()[1].split(",")[1])
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    a = (1 - betas).cumprod(0)
    expected = float((1 / (1 + a / (1 - a))).mean())  # 1 / (1 + SNR) = 1 - a
    assert losses["plain"] - losses["weighted"] == pytest.approx(1 - expected, abs=0.05)


def test_a_full_disk_or_a_bad_picture_leaves_no_folder(autoencoder, tmp_path, monkeypatch):
    def bad(chosen):
        raise DamagedFileError("photo.png is a damaged picture")

    config = PretrainingConfig(steps=1, **TINY)
    with pytest.raises(DamagedFileError, match="photo.png"):
        pretrain(dataclasses.replace(small_task(), reader=bad), autoencoder, config, folder=tmp_path / "run", progress=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(10, 10, 1000))
    with pytest.raises(OSError, match=r"\d [kM]B free"):
        pretrain(small_task(), autoencoder, config, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_the_schedule_is_matched_to_the_size_of_the_latents(autoencoder, tmp_path):
    """SNR(t) = (32 / side)^2 times the linear schedule's, as a stock scheduler has it."""
    model = untrained(small_task(), autoencoder, PretrainingConfig(steps=1, **TINY), name="matched")
    assert model.latent_shape[1] == 4
    linear = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    torch.testing.assert_close(model.diffusion.snr, 64 * linear / (1 - linear), rtol=1e-2, atol=0)
    model.save(tmp_path / "model")
    stock = DDIMScheduler.from_pretrained(tmp_path / "model" / "scheduler")
    torch.testing.assert_close(stock.alphas_cumprod.double(), model.diffusion.alphas_cumprod, rtol=1e-5, atol=1e-6)
    unmatched = untrained(small_task(), autoencoder, PretrainingConfig(steps=1, snr_scale=1, **TINY), name="linear")
    torch.testing.assert_close(unmatched.diffusion.snr, linear / (1 - linear), rtol=1e-6, atol=0)
