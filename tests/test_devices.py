"""The whole way through the package on one device: on the CPU always, on a GPU where there is one."""

import pytest
import torch

import difftuning as dt
from difftuning.evaluation.chain_of_forgetting import loss_ratio, zero_shot_denoising
from small import small_bank, small_pretrained, small_task

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_bank_tuning_sampling_and_measuring_stay_on_the_models_device(tmp_path, device, mixed_precision):
    pretrained, task = small_pretrained().to(device), small_task()
    bank = small_bank(pretrained, tmp_path / "bank")
    config = dt.DiffTuningConfig(steps=3, mixed_precision=mixed_precision)
    tuned = dt.fine_tune(pretrained, task, bank, config, folder=tmp_path / "run", progress=False)
    assert tuned.model.device.type == device and all(torch.isfinite(torch.tensor(tuned.history.values)).flatten())
    for sampler in ("ddim", "ddpm", "dpm++"):
        images = dt.sample(tuned.model, tuned.rows, steps=4, sampler=sampler, guide=pretrained, switch_to=pretrained, switch_at=300)
        assert images.device.type == "cpu" and images.shape == (3, 3, 8, 8) and torch.isfinite(images).all()
    assert loss_ratio(pretrained, tuned.model, task.images[:4], tuned.rows[task.labels[:4]], [50, 500])["ratio"].shape == (2,)
    assert zero_shot_denoising(pretrained, task.images[:2], [100], steps=10)["error"].shape == (1, 2)
    again = dt.load_fine_tuned(tmp_path / "run", device=device)
    assert again.model.device.type == device and again.model.fingerprint == tuned.model.fingerprint
