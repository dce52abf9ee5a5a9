"""From noise or a given state to pictures: what a picture depends on, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import difftuning as dt
from difftuning.diffusion.process import Diffusion
from difftuning.sampling import SamplingStep, sample_latents
from small import small_pretrained
from tests.sampling.helpers import SHAPE, eps_and_variance, first_noise


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
def test_images_are_the_decoded_latents(small_model, sampler):
    options = {"steps": 3, "sampler": sampler, "seed": 2}
    images = dt.sample(small_model, [0, 1], **options)
    assert images.shape == (2, 3, 32, 32)
    assert images.dtype == torch.float32
    assert float(images.abs().max()) <= 1
    torch.testing.assert_close(images, small_model.decode(sample_latents(small_model, [0, 1], **options)), rtol=1e-4, atol=1e-5)


def test_no_labels_give_no_images(small_model):
    assert dt.sample(small_model, [], steps=2).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("t", [900, 500, 0])
def test_a_run_split_in_two_ends_where_the_whole_run_does(small_model, t):
    states: list[SamplingStep] = []
    whole = sample_latents(small_model, [0, 3], steps=10, seed=5, callback=states.append)
    assert [step.t for step in states] == list(range(900, -1, -100))
    state = next(step for step in states if step.t == t)
    torch.testing.assert_close(sample_latents(small_model, [0, 3], steps=10, start=(state.x_t, t)), whole, rtol=1e-4, atol=1e-4)


def test_start_may_be_a_0_dimensional_timestep(small_model):
    x = first_noise(2, seed=1)
    by_tensor = sample_latents(small_model, [0, 3], steps=5, start=(x, torch.tensor(400)))
    assert torch.equal(by_tensor, sample_latents(small_model, [0, 3], steps=5, start=(x, 400)))


def test_callback_sees_the_model_s_estimate_of_x_0(small_model):
    states: list[SamplingStep] = []
    sample_latents(small_model, [0, 3], steps=4, guidance=1, seed=0, callback=states.append)
    for step in states:
        expected = Diffusion().predict_x0(step.x_t, step.t, eps_and_variance(small_model, step.x_t, step.t, [0, 3])[0])
        torch.testing.assert_close(step.x_0, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
def test_a_picture_does_not_depend_on_its_batch(small_model, sampler):
    options = {"steps": 4, "sampler": sampler, "seed": 8}
    together = dt.sample(small_model, [0, 1, 2, 3, 4], **options)
    for batch_size in (1, 2):
        torch.testing.assert_close(dt.sample(small_model, [0, 1, 2, 3, 4], batch_size=batch_size, **options), together, rtol=0, atol=2e-3)
    torch.testing.assert_close(dt.sample(small_model, [0, 1], **options), together[:2], rtol=0, atol=2e-3)


def test_batches_share_a_start_out_in_order(small_model):
    x = first_noise(5, seed=1)
    options = {"steps": 4, "start": (x, 500)}
    together = sample_latents(small_model, [0, 1, 2, 3, 4], **options)
    torch.testing.assert_close(sample_latents(small_model, [0, 1, 2, 3, 4], batch_size=2, **options), together, rtol=1e-3, atol=1e-3)


def test_one_seed_one_result_and_another_seed_another(small_model):
    first, again, other = (dt.sample(small_model, [0, 1], steps=2, sampler="ddpm", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert float((first - other).abs().mean()) > 0.01
    assert float((first[0] - first[1]).abs().mean()) > 0.001


def test_a_generator_stands_for_its_seed_and_moves_on(small_model):
    generator = torch.Generator().manual_seed(3)
    options = {"steps": 2, "sampler": "ddpm"}
    first, second = (dt.sample(small_model, [0, 1], generator=generator, **options) for _ in range(2))
    assert torch.equal(first, dt.sample(small_model, [0, 1], seed=3, **options))
    assert float((first - second).abs().mean()) > 0.01


def test_sampling_leaves_the_global_random_state_alone(small_model):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    dt.sample(small_model, [0, 1], steps=2, sampler="ddpm")
    assert torch.equal(torch.get_rng_state(), before)


def test_same_noise_for_every_model(small_model, other_model):
    """Methods are compared on the same starting noise."""
    starts: list[Tensor] = []
    for model in (small_model, other_model):
        states: list[SamplingStep] = []
        sample_latents(model, [0, 1], steps=2, seed=9, callback=states.append)
        starts.append(states[0].x_t)
    assert torch.equal(*starts)
    assert torch.equal(starts[0], first_noise(2, seed=9))


@pytest.mark.parametrize("options, message", [
    ({"sampler": "euler"}, "unknown sampler 'euler': choose one of ddim, ddpm, dpm\\+\\+"),
    ({"steps": 0}, "steps must be between 1 and 1000, got 0"),
    ({"steps": 1001}, "steps must be between 1 and 1000, got 1001"),
    ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
    ({"steps": "20"}, "steps must be a whole number, got '20'"),
    ({"seed": None}, "seed must be a whole number, got None"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"start": torch.zeros(2, *SHAPE)}, r"start must be a pair \(x_t, t\) of latents and their timestep, got Tensor"),
    ({"start": (torch.full((1, *SHAPE), torch.nan), 5)}, "start's latents must be finite: 256 of 256 numbers are NaN"),
    ({"conditions": {"edge": torch.zeros(2, 3)}}, "conditions must give a row for each of 1 labels: 'edge' has shape \\(2, 3\\)"),
    ({"conditions": {"edge": torch.tensor([torch.inf])}}, "condition 'edge' must be finite: 1 of 1"),
    ({"start": (torch.zeros(2, *SHAPE), 5)}, r"start must hold latents \(1, 4, 8, 8\), got \(2, 4, 8, 8\)"),
    ({"start": (torch.zeros(1, *SHAPE), 1000)}, "start's timestep must be between 0 and 999, got 1000"),
    ({"start": (torch.zeros(1, *SHAPE), -1)}, "start's timestep must be between 0 and 999, got -1"),
    ({"start": (torch.zeros(1, *SHAPE), 500.7)}, "start's timestep must be a whole number, got 500.7"),
])  # fmt: skip
def test_errors_name_the_bad_value(small_model, options, message):
    with pytest.raises(ValueError, match=message):
        dt.sample(small_model, [0], **options)


@pytest.mark.parametrize("options, message", [
    ({"conditions": torch.zeros(1, 3)}, "conditions must be a dict, not Tensor"),
    ({"null_conditions": {"edge": None}}, "condition 'edge' must be a Tensor, not NoneType"),
])  # fmt: skip
def test_conditions_are_tensors_by_name(small_model, options, message):
    with pytest.raises(TypeError, match=message):
        dt.sample(small_model, [0], **options)


def test_numpys_seeds_are_seeds_and_others_are_named():
    model = small_pretrained()
    assert torch.equal(dt.sample(model, [0], steps=2, seed=np.int64(3)), dt.sample(model, [0], steps=2, seed=3))
    for seed in (2**64, 1.5):
        with pytest.raises(ValueError, match="seed must"):
            dt.sample(model, [0], steps=2, seed=seed)


def test_a_generator_is_no_number():
    with pytest.raises(TypeError, match="generator must be a torch.Generator, not int: a number is a seed="):
        dt.sample(small_pretrained(), [0], generator=3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_model_whose_weights_are_no_numbers_is_named(value):
    model = small_pretrained()
    with torch.no_grad():
        model.denoiser.transformer.proj_out_2.bias[0] = value
    with pytest.raises(FloatingPointError, match="^small drew NaN or infinity: its weights have diverged, or overflow in torch.float32$"):
        dt.sample(model, [0, 1], steps=2)


def test_long_sampling_shows_a_bar_and_short_sampling_none(small_model, capsys, monkeypatch):
    dt.sample(small_model, [0, 1, 2], steps=5)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("difftuning.sampling.loop.LONG", 0)
    dt.sample(small_model, [0, 1, 2], steps=5, batch_size=2)
    assert "10/10" in capsys.readouterr().err  # five reverse steps of either batch
    dt.sample(small_model, [0], steps=5, progress=False)
    assert capsys.readouterr().err == ""
