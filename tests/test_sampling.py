"""One sampler for everything, against diffusers' schedulers in loops of their own and an exact denoiser."""

from __future__ import annotations

import types
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn

import difftuning as dt
from difftuning.diffusion.ideal import ideal_denoiser
from difftuning.diffusion.process import Diffusion
from difftuning.models.pretrained import Pretrained
from difftuning.sampling import SamplingStep, label_rows, reverse_timesteps, sample_latents
from small import small_pretrained

SHAPE = (4, 8, 8)


def first_noise(n: int, seed: int, generator_left: bool = False):
    """The noise of `seed`, as the docstring tells it: every sample has a generator with a seed of its own."""
    seeds = torch.randint(2**62, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    x = torch.stack([torch.randn(SHAPE, generator=g) for g in generators])
    return (x, generators) if generator_left else x


@torch.no_grad()
def eps_and_variance(model: Pretrained, x: Tensor, t: int, labels: list[int]) -> tuple[Tensor, Tensor]:
    return model.denoiser(x, torch.full((len(x),), t), torch.tensor(labels)).chunk(2, dim=1)


@contextmanager
def spied(*models: Pretrained):
    """Record (which model, t, labels, x_t) at every call of the real denoisers."""
    calls: list[tuple[int, int, list[int], Tensor]] = []

    def recorder(which: int):
        def record(_, arguments):
            x, t, labels = arguments
            assert len(t) == len(labels) == len(x)
            assert len(t.unique()) == 1
            calls.append((which, int(t[0]), labels.tolist(), x.clone()))

        return record

    handles = [model.denoiser.register_forward_pre_hook(recorder(which)) for which, model in enumerate(models)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


# Samplers


@pytest.mark.parametrize("steps", [1, 5, 7])
def test_ddim_is_diffusers_ddim(small_model, steps):
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(steps)
    x = first_noise(3, seed=4)
    for t in scheduler.timesteps.tolist():
        x = scheduler.step(eps_and_variance(small_model, x, t, [0, 1, 2])[0], t, x).prev_sample
    torch.testing.assert_close(sample_latents(small_model, [0, 1, 2], steps=steps, guidance=1, seed=4), x, rtol=1e-3, atol=1e-3)


def test_ddim_step_is_the_published_formula(small_model):
    """x_s = sqrt(a_s) x_0 + sqrt(1 - a_s) eps, with the model's own x_0 and eps; a = 1 after the last step."""
    a = torch.cat([torch.ones(1).double(), (1 - torch.linspace(1e-4, 0.02, 1000).double()).cumprod(0)])  # a[t + 1]
    x = first_noise(2, seed=0)
    for t in (800, 600, 400, 200, 0):
        eps = eps_and_variance(small_model, x, t, [3, 4])[0].double()
        x_0 = (x.double() - (1 - a[t + 1]).sqrt() * eps) / a[t + 1].sqrt()
        after = a[max(t - 200, -1) + 1]
        x = (after.sqrt() * x_0 + (1 - after).sqrt() * eps).float()
    torch.testing.assert_close(sample_latents(small_model, [3, 4], steps=5, guidance=1, seed=0), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_ddpm_is_diffusers_ddpm_with_learned_variance(small_model, guidance):
    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False)
    scheduler.set_timesteps(6)
    x, generators = first_noise(2, seed=4, generator_left=True)
    for t in scheduler.timesteps.tolist():
        c, variance = eps_and_variance(small_model, x, t, [0, 4])
        u, _ = eps_and_variance(small_model, x, t, [1000, 1000])
        output = torch.cat([u + guidance * (c - u), variance], dim=1)
        x = scheduler.step(output, t, x, generator=generators).prev_sample
    ours = sample_latents(small_model, [0, 4], steps=6, sampler="ddpm", guidance=guidance, seed=4)
    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [2, 8])
def test_dpm_solver_is_diffusers_dpm_solver(small_model, steps):
    """On the same timesteps as DDIM, down to no noise at all."""
    scheduler = DPMSolverMultistepScheduler(trained_betas=np.linspace(1e-4, 0.02, 1000), final_sigmas_type="zero")
    scheduler.set_timesteps(timesteps=[(1000 // steps) * k for k in range(steps)][::-1])
    x = first_noise(2, seed=4)
    for t in scheduler.timesteps:
        x = scheduler.step(eps_and_variance(small_model, x, int(t), [0, 4])[0], t, x).prev_sample
    ours = sample_latents(small_model, [0, 4], steps=steps, sampler="dpm++", guidance=1, seed=4)
    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-3)


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


# Guidance


def test_guidance_goes_from_the_null_branch_through_the_conditional_one(small_model):
    """One step from a given state: eps = u + w (c - u)."""
    x = first_noise(2, seed=1)
    c, u = eps_and_variance(small_model, x, 0, [1, 2])[0], eps_and_variance(small_model, x, 0, [1000, 1000])[0]
    assert float((c - u).abs().mean()) > 0.01
    for w in (0.0, 1.0, 1.5, 4.0):
        expected = Diffusion().predict_x0(x, 0, u + w * (c - u))  # the last DDIM step ends on the estimate of x_0
        torch.testing.assert_close(sample_latents(small_model, [1, 2], start=(x, 0), guidance=w), expected, rtol=1e-4, atol=1e-4)


def test_guidance_1_calls_the_conditional_branch_alone(small_model):
    with spied(small_model) as calls:
        sample_latents(small_model, [1, 4], steps=3, guidance=1)
    assert [(t, labels) for _, t, labels, _ in calls] == [(666, [1, 4]), (333, [1, 4]), (0, [1, 4])]


def test_guidance_asks_for_the_labels_and_the_null_label(small_model):
    with spied(small_model) as calls:
        sample_latents(small_model, [1, 4], steps=2, guidance=1.5)
    assert [t for _, t, _, _ in calls] == [500, 0]
    for _, _, labels, x in calls:
        assert labels == [1, 4, 1000, 1000]
        assert torch.equal(x[:2], x[2:])


def test_domain_guidance_takes_the_null_branch_of_the_guide(small_model, other_model):
    x = first_noise(2, seed=1)
    with spied(small_model, other_model) as calls:
        ours = sample_latents(small_model, [1, 2], start=(x, 0), guidance=2.5, guide=other_model)
    assert [(which, labels) for which, _, labels, _ in calls] == [(0, [1, 2]), (1, [1000, 1000])]
    c, u = eps_and_variance(small_model, x, 0, [1, 2])[0], eps_and_variance(other_model, x, 0, [1000, 1000])[0]
    torch.testing.assert_close(ours, Diffusion().predict_x0(x, 0, u + 2.5 * (c - u)), rtol=1e-4, atol=1e-4)


def test_a_model_that_guides_itself_is_classifier_free_guidance(small_model):
    options = {"steps": 4, "guidance": 2.0, "seed": 3}
    plain = sample_latents(small_model, [0, 1], **options)
    torch.testing.assert_close(sample_latents(small_model, [0, 1], guide=small_model, **options), plain, rtol=1e-3, atol=1e-3)


def test_guide_and_successor_may_have_another_precision(small_model, other_model):
    """bfloat16 keeps 8 bits of each of a few steps: near, but not the same."""
    half = other_model.with_denoiser(other_model.copy_denoiser().bfloat16())
    for options in ({"guide": other_model}, {"switch_to": other_model, "switch_at": 500}):
        role = next(iter(options))
        whole = sample_latents(small_model, [0, 1], steps=4, guidance=1.5, **options)
        mixed = sample_latents(small_model, [0, 1], steps=4, guidance=1.5, **options | {role: half})
        assert not torch.equal(whole, mixed) and float((whole - mixed).abs().mean() / whole.abs().mean()) < 0.05


def test_guide_may_have_a_null_label_of_another_number(small_model):
    class Guide(nn.Linear):  # any module with weights
        latent_shape, null_label, learned_variance, asked = SHAPE, 3, True, ()

        def forward(self, x_t, t, labels):
            self.asked = (*self.asked, labels.tolist())
            return torch.zeros(len(x_t), 8, 8, 8)

    guide = Pretrained(Guide(1, 1), small_model.autoencoder, small_model.scheduler, label_names=["a"])
    sample_latents(small_model, [0, 1], steps=2, guide=guide)
    assert guide.denoiser.asked == ([3, 3], [3, 3])


# Switching denoisers


@pytest.mark.parametrize("switch_at, before", [(0, [800, 600, 400, 200, 0]), (400, [800, 600, 400]), (401, [800, 600]), (1000, [])])
def test_switch_takes_over_exactly_below_its_timestep(small_model, other_model, switch_at, before):
    with spied(small_model, other_model) as calls:
        sample_latents(small_model, [1, 4], steps=5, guidance=2.0, switch_to=other_model, switch_at=switch_at)
    assert [t for which, t, _, _ in calls if which == 0] == before
    assert [t for which, t, _, _ in calls if which == 1] == [t for t in (800, 600, 400, 200, 0) if t not in before]
    assert all(labels == [1, 4, 1000, 1000] for which, _, labels, _ in calls if which == 0)
    assert all(labels == [1000, 1000] for which, _, labels, _ in calls if which == 1)  # its null label, unguided


def test_switching_at_either_end_is_a_pure_run(small_model, other_model):
    options = {"steps": 5, "seed": 6}
    never = sample_latents(small_model, [1, 4], switch_to=other_model, switch_at=0, **options)
    assert torch.equal(never, sample_latents(small_model, [1, 4], **options))
    always = sample_latents(small_model, [1, 4], switch_to=other_model, switch_at=1000, **options)
    assert torch.equal(always, sample_latents(other_model, [1000, 1000], guidance=1, **options))
    between = sample_latents(small_model, [1, 4], switch_to=other_model, switch_at=500, **options)
    assert min(float((between - end).abs().max()) for end in (never, always)) > 0.01


def test_switching_is_two_runs_put_together(small_model, other_model):
    """First model from the noise down to t = 400, second one from there."""
    states: list[SamplingStep] = []
    sample_latents(small_model, [1, 4], steps=5, guidance=1, seed=6, callback=states.append)
    at_400 = next(step for step in states if step.t == 400)
    rest = sample_latents(other_model, [1000, 1000], steps=5, guidance=1, start=(at_400.x_t, 400))
    whole = sample_latents(small_model, [1, 4], steps=5, guidance=1, seed=6, switch_to=other_model, switch_at=401)
    torch.testing.assert_close(whole, rest, rtol=1e-4, atol=1e-4)


# Starting mid-way


@pytest.mark.parametrize("t", [900, 500, 0])
def test_a_run_split_in_two_ends_where_the_whole_run_does(small_model, t):
    states: list[SamplingStep] = []
    whole = sample_latents(small_model, [0, 3], steps=10, seed=5, callback=states.append)
    assert [step.t for step in states] == list(range(900, -1, -100))
    state = next(step for step in states if step.t == t)
    torch.testing.assert_close(sample_latents(small_model, [0, 3], steps=10, start=(state.x_t, t)), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
@pytest.mark.parametrize("t, visited", [(999, [999, 799, 599, 399, 199]), (450, [450, 250, 50]), (3, [3])])
def test_any_start_keeps_the_step_length_of_the_whole_chain(small_model, sampler, t, visited):
    states: list[SamplingStep] = []
    x = first_noise(2, seed=1)
    out = sample_latents(small_model, [0, 3], steps=5, sampler=sampler, start=(x, t), callback=states.append)
    assert [step.t for step in states] == visited
    assert torch.equal(states[0].x_t, x)
    assert bool(out.isfinite().all())


@pytest.mark.parametrize("start", [400, 450, 199])
@pytest.mark.parametrize("seed", [0, 1])
def test_ddpm_from_any_start_ends_on_its_last_estimate(small_model, start, seed):
    """The last step goes to t = -1, where no noise is left, from wherever the chain came: on the grid of steps or off it."""
    states: list[SamplingStep] = []
    options = {"steps": 5, "sampler": "ddpm", "guidance": 1, "seed": seed, "callback": states.append}
    found = sample_latents(small_model, [0, 3], start=(first_noise(2, seed=1), start), **options)
    assert states[-1].t == start % 200
    torch.testing.assert_close(found, states[-1].x_0, rtol=1e-4, atol=1e-4)


def test_a_guide_of_another_forward_process_or_device_is_refused(small_model):
    other = small_model.with_denoiser(small_model.denoiser)
    other.diffusion = Diffusion(torch.linspace(1e-4, 0.03, 1000))
    with pytest.raises(ValueError, match="guide has another forward process"):
        sample_latents(small_model, [0], steps=2, guide=other)
    other.diffusion = Diffusion(torch.linspace(1e-4, 0.02, 500))
    with pytest.raises(ValueError, match="switch_to has another forward process"):
        sample_latents(small_model, [0], steps=2, switch_to=other, switch_at=100)
    away = small_model.with_denoiser(small_model.copy_denoiser().to("meta"))
    with pytest.raises(ValueError, match="guide is on meta, the model on cpu"):
        sample_latents(small_model, [0], steps=2, guide=away)


@pytest.mark.parametrize("guidance", [float("nan"), float("inf")])
def test_a_guidance_that_is_no_number_is_refused(small_model, guidance):
    with pytest.raises(ValueError, match="guidance must be a finite number"):
        sample_latents(small_model, [0], steps=2, guidance=guidance)


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


# What a picture may depend on


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


def test_labels_are_rows_or_names(small_model):
    options = {"steps": 2, "seed": 1}
    by_row = dt.sample(small_model, torch.tensor([4, 0]), **options)
    for labels in ([4, 0], (4, 0), np.array([4, 0]), ["hook", "ring"], torch.tensor([4, 0], dtype=torch.int32)):
        assert torch.equal(dt.sample(small_model, labels, **options), by_row)
    assert float((dt.sample(small_model, ["ring", "hook"], **options) - by_row).abs().max()) > 1e-3


def test_every_row_is_a_label_the_null_row_included(small_model):
    rows = label_rows(small_model, [0, 999, 1000])
    assert rows.tolist() == [0, 999, 1000]
    assert rows.dtype == torch.int64


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


# An exact denoiser


class Exact(nn.Module):
    """The ideal denoiser over a finite set as a module that gives eps; the variance at its lower bound."""

    def __init__(self, data: Tensor, diffusion: Diffusion):
        super().__init__()
        self.weight, self.null_label, self.learned_variance = nn.Parameter(torch.zeros(1)), 1, True
        self.data, self.diffusion, self.latent_shape = data, diffusion, tuple(data.shape[1:])

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        x_0 = ideal_denoiser(x_t, t, self.data, self.diffusion.alphas_cumprod)
        return torch.cat([self.diffusion.predict_eps(x_t, t, x_0), torch.full_like(x_t, -1.0)], dim=1)


@pytest.fixture(scope="module")
def three_points(small_model) -> Pretrained:
    data = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 2
    denoiser = Exact(data, small_model.diffusion)
    return Pretrained(denoiser, small_model.autoencoder, small_model.scheduler, label_names=["point"])


@pytest.mark.parametrize("sampler, steps", [("ddim", 200), ("ddim", 50), ("ddpm", 200), ("dpm++", 50)])
def test_an_exact_denoiser_ends_on_the_data(three_points, sampler, steps):
    out = sample_latents(three_points, [0] * 60, sampler=sampler, steps=steps, guidance=1)
    distances = torch.cdist(out.flatten(1), three_points.denoiser.data.flatten(1))
    assert float(distances.min(1).values.max()) < 1e-2
    shares = torch.bincount(distances.argmin(1), minlength=3)
    assert int(shares.min()) >= 8  # a third each, 20; seven or fewer has a chance of 1 in 1000


def test_an_exact_denoiser_from_mid_way_returns_where_it_came_from(three_points):
    data = three_points.denoiser.data
    noise = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    x_t = three_points.diffusion.q_sample(data, 100, noise)
    out = sample_latents(three_points, [0] * 3, steps=100, guidance=1, start=(x_t, 100))
    torch.testing.assert_close(out, data, rtol=0, atol=1e-2)


# Errors


@pytest.mark.parametrize(
    "labels, options, message",
    [
        ([0], {"sampler": "euler"}, "unknown sampler 'euler': choose one of ddim, ddpm, dpm\\+\\+"),
        ([0], {"steps": 0}, "steps must be between 1 and 1000, got 0"),
        ([0], {"steps": 1001}, "steps must be between 1 and 1000, got 1001"),
        ([0, -1], {}, r"label -1 is outside 0..1000 \(the null label\)"),
        ([0, 1001], {}, "label 1001 is outside 0..1000"),
        (["ring", "cat"], {}, "unknown label 'cat'"),
        ([0], {"steps": 2.5}, "steps must be a whole number, got 2.5"),
        ([0], {"steps": "20"}, "steps must be a whole number, got '20'"),
        ([0], {"guidance": "1.5"}, "guidance must be a number, got '1.5'"),
        ([0], {"guidance": True}, "guidance must be a number, got True"),
        ([0], {"seed": None}, "seed must be a whole number, got None"),
        ([0], {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ([0], {"switch_at": 0.5}, "switch_at must be a whole number, got 0.5"),
        ([0.0], {}, "labels are whole numbers or names, got 0.0"),
        ([True], {}, "labels are whole numbers or names, got True"),
        (None, {}, "labels are whole numbers or names, one for each picture, got None"),
        ([[0], [1]], {}, r"labels are one for each picture, \(N,\), got shape \(2, 1\)"),
        ([0], {"start": torch.zeros(2, *SHAPE)}, r"start must be a pair \(x_t, t\) of latents and their timestep, got Tensor"),
        ([0], {"start": (torch.full((1, *SHAPE), torch.nan), 5)}, "start's latents must be finite: 256 of 256 numbers are NaN"),
        ([0], {"conditions": {"edge": torch.zeros(2, 3)}}, "conditions must give a row for each of 1 labels: 'edge' has 2"),
        ([0], {"conditions": {"edge": torch.tensor([torch.inf])}}, "condition 'edge' must be finite: 1 of 1"),
        ([0], {"switch_at": 10}, "switch_to and switch_at go together"),
        ([0], {"start": (torch.zeros(2, *SHAPE), 5)}, r"start must hold latents \(1, 4, 8, 8\), got \(2, 4, 8, 8\)"),
        ([0], {"start": (torch.zeros(1, *SHAPE), 1000)}, "start's timestep must be between 0 and 999, got 1000"),
        ([0], {"start": (torch.zeros(1, *SHAPE), -1)}, "start's timestep must be between 0 and 999, got -1"),
    ],
)
def test_errors_name_the_bad_value(small_model, labels, options, message):
    with pytest.raises(ValueError, match=message):
        dt.sample(small_model, labels, **options)


def test_switching_without_a_place_or_beyond_the_chain_is_refused(small_model, other_model):
    with pytest.raises(ValueError, match="switch_to and switch_at go together"):
        dt.sample(small_model, [0], switch_to=other_model)
    with pytest.raises(ValueError, match="switch_at must be between 0 and 1000, got 1001"):
        dt.sample(small_model, [0], switch_to=other_model, switch_at=1001)


@pytest.mark.parametrize("role", [{"guide": True}, {"switch_to": True, "switch_at": 5}])
def test_a_partner_with_other_latents_is_refused(small_model, three_points, role):
    partner = {name: three_points if value is True else value for name, value in role.items()}
    with pytest.raises(ValueError, match=rf"{next(iter(role))} works on latents \(1, 2, 2\), the model on \(4, 8, 8\)"):
        dt.sample(small_model, [0], **partner)


def test_numpys_seeds_are_seeds_and_others_are_named():
    model = small_pretrained()
    assert torch.equal(dt.sample(model, [0], steps=2, seed=np.int64(3)), dt.sample(model, [0], steps=2, seed=3))
    for seed in (2**64, 1.5):
        with pytest.raises(ValueError, match="seed must"):
            dt.sample(model, [0], steps=2, seed=seed)


def test_a_start_between_two_timesteps_is_refused():
    model = small_pretrained()
    with pytest.raises(ValueError, match="start's timestep must be a whole number, got 500.7"):
        dt.sample(model, [0], steps=10, start=(torch.zeros(1, *model.latent_shape), 500.7))


def test_a_generator_is_no_number():
    with pytest.raises(TypeError, match="generator must be a torch.Generator, not int: a number is a seed="):
        dt.sample(small_pretrained(), [0], generator=3)


def test_one_label_alone_is_one_picture(small_model):
    for label in ("cross", 1, np.int64(1)):
        assert label_rows(small_model, label).tolist() == [1]
    assert label_rows(small_model, ["cross", 2]).tolist() == [1, 2]


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
    monkeypatch.setattr("difftuning.sampling.LONG", 0)
    dt.sample(small_model, [0, 1, 2], steps=5, batch_size=2)
    assert "10/10" in capsys.readouterr().err  # five reverse steps of either batch
    dt.sample(small_model, [0], steps=5, progress=False)
    assert capsys.readouterr().err == ""


def test_what_is_no_model_is_told_where_the_model_is():
    tuned = types.SimpleNamespace(model=small_pretrained())
    with pytest.raises(TypeError, match="model must be a Pretrained, not SimpleNamespace: pass its .model"):
        dt.sample(tuned, [0])


def test_an_offset_begins_and_ends_later_where_the_chain_allows_it():
    assert reverse_timesteps(1000, 5) == [800, 600, 400, 200, 0]
    assert reverse_timesteps(1000, 5, offset=1) == [801, 601, 401, 201, 1]
    assert reverse_timesteps(1000, 1000, offset=1) == list(range(999, -1, -1))
    assert reverse_timesteps(1000, 5, 300, offset=1) == [300, 100]
