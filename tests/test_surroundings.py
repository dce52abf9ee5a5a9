"""What a caller has set for all of torch, or a launcher has left behind, changes no bit of what the public functions give."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import difftuning as dt
from difftuning.data.latents import encode_latents
from difftuning.diffusion.process import Diffusion, precise
from difftuning.support.files import load_tensors
from difftuning.training.objective import Objective, Stream
from small import small_bank, small_pretrained
from tests.training.helpers import assert_same, run


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


SURROUNDINGS = {
    "default dtype": default_dtype,
    "default device": default_device,
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A saved model and a task's npz file."""
    folder, rng = tmp_path_factory.mktemp("given"), np.random.default_rng(0)
    small_pretrained().save(folder / "model")
    np.savez(folder / "task.npz", images=rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8), labels=np.arange(24) % 3)
    return folder


def features(images):
    return images.flatten(1)[:, :4]


def whole_way(places, folder) -> dict[str, object]:
    """Every public function that a bit could come from."""
    pretrained, task = dt.load_pretrained(places / "model"), dt.load_task(places / "task.npz")
    bank = dt.MemoryBank.sample(pretrained, 6, folder=folder / "bank", steps=2, reencode=True, shard_size=4, progress=False)
    config = dt.DiffTuningConfig(steps=3, batch_size=10, loss_weighting="p2")
    tuned = dt.fine_tune(pretrained, task, bank, config, folder=folder / "run", progress=False, regularizer="l2_sp")
    again = dt.load_fine_tuned(folder / "run")
    latents = encode_latents(pretrained, task, progress=False)["latents"]
    rows, times, few = tuned.rows[task.labels[:4]], [50, 500], task.images[:4]
    t = torch.tensor([3, 700, 10, 999], device="cpu")
    found = {
        "images": task.images, "latents": latents, "decoded": pretrained.decode(latents[:2]), "bank": bank.latents, "labels": bank.labels,
        "bank images": bank.images(pretrained), "part": task.subset([3, 1]).images, "history": torch.tensor(tuned.history.drop(columns="seconds").values, device="cpu"),
        "weights": again.model.denoiser.label_table.detach(), "prediction": pretrained.predict(latents[:4], t, rows),
        "zero shot": dt.zero_shot_denoising(pretrained, few, [100], steps=10)["error"],
        "ratio": dt.loss_ratio(pretrained, tuned.model, few, rows, times)["ratio"],
    }  # fmt: skip
    for sampler in ("ddim", "ddpm", "dpm++"):
        found[sampler] = dt.sample(again.model, ["0", "cross"], steps=4, sampler=sampler, guide=pretrained)
    found |= {f"score {name}": value for name, value in dt.evaluate(found["bank images"], task, features=features).items()}
    diffusion = Diffusion()
    found |= {
        "betas": diffusion.betas, "snr": dt.Diffusion([1e-4, 0.01]).snr, "noised": diffusion.q_sample(latents[:4], t, latents[4:8]),
        "psi": dt.reconsolidation_weight([0, 500], 1000), "xi": dt.retention_weight(t, 1000, 2.0), "law": dt.timestep_distribution(10, 1),
        "p2": dt.p2_weight(diffusion.snr), "min snr": dt.min_snr_weight([0.1, 7.0]), "mean 1": dt.loss_weights([0.25, 0.75]),
        "ideal": dt.ideal_denoiser(latents[:4], t, latents, diffusion.alphas_cumprod), "ideal at": dt.ideal_denoiser(latents[:4], 300, latents, diffusion.alphas_cumprod),
        "hybrid": dt.hybrid_loss(torch.cat([latents[:4], latents[4:8]], 1), latents[:4], latents[4:8], latents[8:12], t, diffusion),
    }  # fmt: skip
    return found


@pytest.fixture(scope="module")
def undisturbed_result(places, tmp_path_factory):
    return whole_way(places, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_no_bit_depends_on_the_callers_settings_of_torch(places, undisturbed_result, tmp_path, name):
    with SURROUNDINGS[name]():
        found = whole_way(places, tmp_path)
    for key, expected in undisturbed_result.items():
        same = (
            torch.equal(found[key], expected) and found[key].dtype == expected.dtype
            if isinstance(expected, torch.Tensor)
            else found[key] == expected
        )
        assert same, f"{key} is another under another {name}"


def test_the_callers_settings_are_as_before_even_after_an_error(places, tmp_path):
    with default_dtype(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(FileNotFoundError):
            dt.load_pretrained(tmp_path / "nothing")
        dt.load_pretrained(places / "model")
        assert torch.get_default_dtype() == torch.float64 and torch.is_inference_mode_enabled() and torch.is_autocast_enabled("cpu")
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


def test_gradients_flow_through_the_losses_as_the_caller_has_it():
    x, t = torch.randn(2, 4, 4, 4), torch.tensor([3, 800])
    output = torch.randn(2, 8, 4, 4, requires_grad=True)
    assert dt.hybrid_loss(output, x, x, x, t, Diffusion()).requires_grad
    with torch.no_grad():
        assert not dt.hybrid_loss(output, x, x, x, t, Diffusion()).requires_grad


def test_a_bank_in_half_precision_says_so_and_goes_on_so(places, tmp_path):
    pretrained = dt.load_pretrained(places / "model")
    half = small_bank(pretrained, tmp_path / "half", mixed_precision="bf16")
    exact = small_bank(pretrained, tmp_path / "exact")
    assert half.latents.dtype == torch.float32 and not torch.equal(half.latents, exact.latents)
    assert half.recipe.fingerprint == pretrained.fingerprint
    (tmp_path / "half" / "shard-00001.safetensors").unlink()
    assert dt.MemoryBank.load(tmp_path / "exact").recipe.mixed_precision == "no"
    half.repair(pretrained)
    assert torch.equal(load_tensors(tmp_path / "half" / "shard-00001.safetensors")["latents"], half.latents[8:16])


@pytest.mark.parametrize("left", [
    {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "1"}, {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
    {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_FSDP": "true"},
])  # fmt: skip
def test_what_a_launcher_has_left_in_the_environment_has_no_say(left, tmp_path, monkeypatch):
    expected = run(tmp_path / "undisturbed", steps=3)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert_same(run(tmp_path / "left", steps=3), expected)


class NoFloat64OnMeta(TorchDispatchMode):
    """Stands for a device without float64 (Apple's mps): raises where such a tensor would come to be on it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta" and tensor.dtype == torch.float64:
                raise TypeError(f"{function} makes a float64 tensor on a device that has none")
        return result


def test_float64_never_goes_to_a_device_without_it(monkeypatch):
    monkeypatch.setattr("difftuning.diffusion.ideal.require_finite", lambda *_: None)  # nobody can look at a number there
    meta, diffusion = torch.device("meta"), Diffusion()
    model = small_pretrained().denoiser.to(meta)
    latents, law = torch.randn(8, 4, 4, 4), torch.linspace(0, 1, 1000, dtype=torch.float64)
    streams = [
        Stream(name, latents, torch.arange(8) % 5, 4, law, timestep_weight=law, eps_weight=law, picture_distribution=law[1:9])
        for name in ("target", "bank")
    ]  # fmt: skip
    x, t = latents.to(meta), torch.zeros(8, dtype=torch.int64, device=meta)
    with NoFloat64OnMeta():
        losses = Objective(streams, diffusion, 0).losses(model, 0, meta)
        assert losses["target"].device.type == "meta" and losses["target"].dtype == torch.float32
        for result in (
            diffusion.q_sample(x, t, x),
            diffusion.predict_x0(x, t, x),
            diffusion.predict_eps(x, t, x),
            diffusion.velocity(x, t, x),
        ):
            assert result.dtype == torch.float32
        assert dt.hybrid_loss(torch.cat([x, x], 1), x, x, x, t, diffusion).dtype == torch.float32
        assert dt.ideal_denoiser(x, 300, x, diffusion.alphas_cumprod).dtype == torch.float32
    with pytest.raises(TypeError, match="float64"), NoFloat64OnMeta():
        law.to(meta)
    assert precise(torch.device("mps")) == torch.float32 and precise(torch.device("cuda")) == precise(torch.device("cpu")) == torch.float64
