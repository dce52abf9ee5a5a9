"""The forward process, the hybrid loss and the ideal denoiser, against diffusers, torch.distributions and plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from difftuning.diffusion import Diffusion, eps_loss, hybrid_loss, ideal_denoiser, patch_denoiser, posterior_weights

SOME_T = torch.tensor([0, 1, 7, 250, 999])


@pytest.fixture(scope="module")
def diffusion() -> Diffusion:
    return Diffusion()


def draws(n: int = 5, shape: tuple[int, ...] = (2, 4, 4), count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(n, *shape, generator=generator) for _ in range(count)]


# Forward process


def test_default_betas_are_those_of_dit(diffusion):
    assert diffusion.num_timesteps == 1000
    assert float(diffusion.betas[0]) == pytest.approx(1e-4)
    assert float(diffusion.betas[-1]) == pytest.approx(0.02)
    assert diffusion.betas.diff().tolist() == pytest.approx([(0.02 - 1e-4) / 999] * 999, rel=1e-6)


def test_tables_are_float64_running_products(diffusion):
    product, snr = 1.0, []
    for t, beta in enumerate(diffusion.betas.tolist()):
        product *= 1 - beta
        assert float(diffusion.alphas_cumprod[t]) == pytest.approx(product, rel=1e-12)
        snr.append(product / (1 - product))
    assert diffusion.snr.tolist() == pytest.approx(snr, rel=1e-9)
    assert {diffusion.betas.dtype, diffusion.alphas_cumprod.dtype, diffusion.snr.dtype} == {torch.float64}


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_q_sample_is_diffusers_add_noise(schedule):
    scheduler = DDPMScheduler(beta_schedule=schedule)
    x_0, noise = draws(count=2)
    ours = Diffusion(scheduler.betas).q_sample(x_0, SOME_T, noise)
    torch.testing.assert_close(ours, scheduler.add_noise(x_0, noise, SOME_T), rtol=1e-4, atol=2e-5)


def test_one_timestep_for_all_is_an_int_or_a_row(diffusion):
    x_0, noise = draws(count=2)
    assert torch.equal(diffusion.q_sample(x_0, 70, noise), diffusion.q_sample(x_0, torch.full((5,), 70), noise))


@pytest.mark.parametrize("shape", [(3,), (4, 8, 8), (1, 2, 3, 2)])
def test_conversions_invert_each_other(diffusion, shape):
    x_0, eps = draws(shape=shape, count=2)
    x_t = diffusion.q_sample(x_0, SOME_T, eps)
    torch.testing.assert_close(diffusion.predict_eps(x_t, SOME_T, x_0), eps, rtol=1e-3, atol=1e-4)
    x_t = x_t.double()  # dividing by sqrt(a_t) = 0.006 costs float32 its last digits
    torch.testing.assert_close(diffusion.predict_x0(x_t, SOME_T, eps.double()).float(), x_0, rtol=1e-3, atol=1e-4)
    assert x_t.shape == x_0.shape


def test_velocity_is_diffusers_velocity(diffusion):
    x_0, noise = draws(count=2)
    theirs = DDIMScheduler(trained_betas=diffusion.betas.tolist()).get_velocity(x_0, noise, SOME_T)
    torch.testing.assert_close(diffusion.velocity(x_0, SOME_T, noise), theirs, rtol=1e-4, atol=1e-5)


def test_x_0_is_a_rotation_of_x_t_and_velocity(diffusion):
    x_0, noise = draws(count=2)
    a = diffusion.alphas_cumprod[SOME_T].reshape(-1, 1, 1, 1)
    x_t, v = diffusion.q_sample(x_0, SOME_T, noise), diffusion.velocity(x_0, SOME_T, noise)
    torch.testing.assert_close((a.sqrt() * x_t - (1 - a).sqrt() * v).float(), x_0, rtol=1e-5, atol=1e-5)


# Hybrid loss


def posterior(diffusion: Diffusion, x_0: Tensor, x_t: Tensor, t: int) -> Normal:
    """q(x_{t-1} | x_t, x_0) by Bayes' rule: prior from x_0 times likelihood of x_t, both Gaussian."""
    beta = float(diffusion.betas[t])
    before = float((1 - diffusion.betas[:t]).prod())
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (x_0 * math.sqrt(before) / (1 - before) + x_t * math.sqrt(1 - beta) / beta) / precision
    return Normal(mean, torch.full_like(mean, precision**-0.5))


def posterior_variance(diffusion: Diffusion, t: int) -> float:
    return float(posterior(diffusion, torch.zeros(1).double(), torch.zeros(1).double(), t).variance)


def reverse_step(diffusion: Diffusion, eps: Tensor, fraction: Tensor, x_t: Tensor, t: int) -> Normal:
    """p(x_{t-1} | x_t): the posterior at the estimated x_0, its variance between the posterior's and beta_t."""
    a = float((1 - diffusion.betas[: t + 1]).prod())
    x_0 = (x_t - math.sqrt(1 - a) * eps) / math.sqrt(a)
    # At t = 0 the posterior is a point: its mean is x_0, and the next timestep lends its variance.
    mean = posterior(diffusion, x_0, x_t, t).mean if t > 0 else x_0
    small = posterior_variance(diffusion, max(t, 1))
    log_variance = fraction * math.log(float(diffusion.betas[t])) + (1 - fraction) * math.log(small)
    return Normal(mean, (log_variance / 2).exp())


def bound_by_distributions(diffusion: Diffusion, output: Tensor, x_0: Tensor, x_t: Tensor, t: int) -> float:
    """L_t of one sample in bits per number, in float64."""
    output, x_0, x_t = output.double(), x_0.double(), x_t.double()
    channels = len(x_0)
    step = reverse_step(diffusion, output[:channels], (output[channels:] + 1) / 2, x_t, t)
    if t > 0:
        return float(kl_divergence(posterior(diffusion, x_0, x_t, t), step).mean()) / math.log(2)
    upper = torch.where(x_0 > 0.999, torch.ones_like(x_0), step.cdf(x_0 + 1 / 255))
    lower = torch.where(x_0 < -0.999, torch.zeros_like(x_0), step.cdf(x_0 - 1 / 255))
    return float(-(upper - lower).log().mean()) / math.log(2)


@pytest.mark.parametrize("t", [1, 2, 50, 400, 999])
def test_hybrid_loss_is_mse_plus_the_divergence_of_the_two_gaussians(diffusion, t):
    x_0, noise = draws(count=2)
    output = torch.cat([noise + 0.3 * draws(6)[0][:5], draws(7)[0][:5]], dim=1)  # variances outside [-1, 1] too
    times = torch.full((5,), t)
    x_t = diffusion.q_sample(x_0, times, noise)
    losses = hybrid_loss(output, x_0, x_t, noise, times, diffusion)
    for n in range(5):
        mse = float((output[n, :2] - noise[n]).double().square().mean())
        bound = bound_by_distributions(diffusion, output[n], x_0[n], x_t[n], t)
        assert float(losses[n]) == pytest.approx(mse + bound, rel=2e-4, abs=1e-6)
        assert float(losses[n] - eps_loss(output, noise)[n]) == pytest.approx(bound, rel=1e-3, abs=1e-5)


def test_at_t_0_the_bound_is_the_likelihood_of_256_levels(diffusion):
    """DiT's tanh approximation of the normal distribution function is within 2 % here."""
    x_0 = (torch.randint(0, 256, (5, 2, 4, 4), generator=torch.Generator().manual_seed(0)) / 127.5 - 1).float()
    x_0[0], x_0[1] = -1.0, 1.0  # the open-ended outer levels
    noise = draws(count=1)[0]
    times = torch.zeros(5, dtype=torch.int64)
    x_t = diffusion.q_sample(x_0, times, noise)
    output = torch.cat([noise + 0.5 * draws(6)[0][:5], draws(7)[0][:5].clamp(-1, 1)], dim=1)
    losses = hybrid_loss(output, x_0, x_t, noise, times, diffusion) - eps_loss(output, noise)
    expected = [bound_by_distributions(diffusion, output[n], x_0[n], x_t[n], 0) for n in range(5)]
    assert losses.tolist() == pytest.approx(expected, rel=0.02)


def test_mixed_timesteps_give_each_sample_its_own_loss(diffusion):
    x_0, noise = draws(count=2)
    output = torch.cat(draws(count=2), dim=1)
    x_t = diffusion.q_sample(x_0, SOME_T, noise)
    together = hybrid_loss(output, x_0, x_t, noise, SOME_T, diffusion)
    assert together.shape == (5,)
    alone = [hybrid_loss(*(part[n : n + 1] for part in (output, x_0, x_t, noise, SOME_T)), diffusion) for n in range(5)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_bound_trains_the_variance_and_never_the_noise(diffusion):
    x_0, noise = draws(count=2)
    output = torch.cat(draws(8, count=2), dim=1)[:5].requires_grad_()
    x_t = diffusion.q_sample(x_0, SOME_T, noise)
    hybrid = torch.autograd.grad(hybrid_loss(output, x_0, x_t, noise, SOME_T, diffusion).sum(), output)[0]
    mse = torch.autograd.grad((output[:, :2] - noise).square().flatten(1).mean(1).sum(), output)[0]
    torch.testing.assert_close(hybrid[:, :2], mse[:, :2])
    assert bool((hybrid[:, 2:].flatten(1).norm(dim=1) > 0).all())


def test_hopeless_outputs_keep_the_loss_and_its_gradient_finite(diffusion):
    x_0, noise = draws(count=2)
    output = (100 * torch.cat(draws(8, count=2), dim=1)[:5]).clamp(-50, 50).requires_grad_()
    output.data[:, 2:] = output.data[:, 2:].clamp(-1, 1)
    x_t = diffusion.q_sample(x_0, SOME_T, noise)
    losses = hybrid_loss(output, x_0, x_t, noise, SOME_T, diffusion)
    losses.sum().backward()
    assert bool(losses.isfinite().all())
    assert bool(output.grad.isfinite().all())


@pytest.mark.parametrize("t", [1, 40, 999])
def test_diffusers_learned_variance_step_draws_from_the_same_gaussian(diffusion, t):
    """What the sampler does is what the loss is the bound of."""
    scheduler = DDPMScheduler(trained_betas=diffusion.betas.tolist(), variance_type="learned_range", clip_sample=False)
    x_t, eps, variance = draws()
    stepped = scheduler.step(torch.cat([eps, variance], 1), t, x_t, generator=torch.Generator().manual_seed(3)).prev_sample
    drawn = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(3))
    gaussian = reverse_step(diffusion, eps.double(), (variance.double() + 1) / 2, x_t.double(), t)
    expected = gaussian.mean + gaussian.stddev * drawn
    torch.testing.assert_close(stepped, expected.float(), rtol=2e-4, atol=2e-4)
    times = torch.full((len(x_t),), t)
    mean = diffusion.posterior_mean(diffusion.predict_x0(x_t, times, eps), x_t, times)
    torch.testing.assert_close(mean, gaussian.mean.float(), rtol=1e-4, atol=1e-4)


# Ideal denoiser


def ideal_by_loops(x_t: Tensor, t: int, data: Tensor, diffusion: Diffusion) -> Tensor:
    """Bayes' rule over the set, one query, one member, one number at a time."""
    a = float(diffusion.alphas_cumprod[t])
    out = []
    for query in x_t.flatten(1).tolist():
        exponents = []
        for point in data.flatten(1).tolist():
            distance = sum((q - math.sqrt(a) * p) ** 2 for q, p in zip(query, point))
            exponents.append(-distance / (2 * (1 - a)))
        top = max(exponents)
        weights = [math.exp(e - top) for e in exponents]
        columns = zip(*data.flatten(1).tolist())
        out.append([sum(w * p for w, p in zip(weights, column)) / sum(weights) for column in columns])
    return torch.tensor(out, dtype=torch.float64).reshape(x_t.shape)


@pytest.mark.parametrize("t", [0, 5, 120, 600, 999])
@pytest.mark.parametrize("shape", [(2,), (2, 3, 3)])
def test_ideal_denoiser_is_the_posterior_mean_by_brute_force(diffusion, t, shape):
    data = draws(7, shape)[0].double()
    noise = draws(6, shape)[0].double()
    x_t = diffusion.q_sample(data[:6], t, noise)
    torch.testing.assert_close(ideal_denoiser(x_t, t, data, diffusion.alphas_cumprod), ideal_by_loops(x_t, t, data, diffusion))


def test_ideal_denoiser_takes_one_timestep_or_one_for_each(diffusion):
    data, x_t = draws(count=2)
    each = ideal_denoiser(x_t, SOME_T, data, diffusion.alphas_cumprod)
    for n, t in enumerate(SOME_T.tolist()):
        torch.testing.assert_close(ideal_denoiser(x_t[n : n + 1], t, data, diffusion.alphas_cumprod), each[n : n + 1])
    row = ideal_denoiser(x_t, torch.full((5,), 40), data, diffusion.alphas_cumprod)
    assert torch.equal(ideal_denoiser(x_t, 40, data, diffusion.alphas_cumprod), row)


def test_theorem_1_as_t_goes_to_0_the_nearest_member_is_returned(diffusion):
    data = draws(9, (2, 3, 3))[0]
    x_t = data[[4, 0, 7]] + 0.3 * draws(3, (2, 3, 3))[0]
    nearest = [min(range(9), key=lambda i: float((x - data[i]).norm())) for x in x_t]
    torch.testing.assert_close(ideal_denoiser(x_t, 0, data, diffusion.alphas_cumprod), data[nearest])


def test_theorem_1_as_t_goes_to_T_the_mean_is_returned(diffusion):
    data, x_t = draws(9, (2, 3, 3), count=2)
    denoised = ideal_denoiser(x_t, 999, data, diffusion.alphas_cumprod)
    assert float((denoised - data.mean(0)).abs().max()) < 0.1
    exactly = ideal_denoiser(x_t, 0, data, torch.tensor([1e-14]))  # the limit itself
    torch.testing.assert_close(exactly, data.mean(0).expand_as(exactly), rtol=1e-4, atol=1e-5)


def test_a_larger_set_is_never_farther_from_the_query(diffusion):
    """At t -> 0 the error is the distance to the nearest member, which members of a bank can only lower."""
    target, bank = draws(4, (6,))[0], draws(40, (6,))[0]
    x_t = draws(20, (6,), count=4)[3]

    def distance(data: Tensor) -> Tensor:
        return (ideal_denoiser(x_t, 0, data, diffusion.alphas_cumprod) - x_t).norm(dim=1)

    few, many = distance(target), distance(torch.cat([target, bank]))
    assert bool((many <= few + 1e-5).all())
    assert bool((many < few - 0.1).any())


def test_ideal_denoiser_does_not_overflow_far_from_the_data(diffusion):
    data = draws(5, (3,))[0]
    x_t = torch.cat([data[:1] + 1e4, data[:1] - 1e4])
    denoised = ideal_denoiser(x_t, 0, data, diffusion.alphas_cumprod)
    farthest = [int(data.sum(1).argmax()), int(data.sum(1).argmin())]  # nearest along the diagonal
    torch.testing.assert_close(denoised, data[farthest])


def test_ideal_denoiser_of_one_image_is_that_image(diffusion):
    x_t = draws()[0]
    one = draws(6)[0][:1]
    torch.testing.assert_close(ideal_denoiser(x_t, SOME_T, one, diffusion.alphas_cumprod), one.expand_as(x_t))


# Errors


@pytest.mark.parametrize("size", [1, 3])
def test_patch_denoiser_is_the_posterior_mean_given_the_window_by_brute_force(diffusion, size):
    """Cell by cell in plain loops, with the Gaussian densities of torch.distributions."""
    data, x_t = draws(6, (2, 4, 3))[0], draws(3, (2, 4, 3))[1]
    t = torch.tensor([40, 300, 900])
    found = patch_denoiser(x_t, t, data, diffusion.alphas_cumprod, size)
    for n in range(3):
        a = float(diffusion.alphas_cumprod[t[n]])
        for row in range(4):
            for column in range(3):
                window = [(i, j) for i in range(4) for j in range(3) if abs(i - row) <= size // 2 and abs(j - column) <= size // 2]
                densities = [
                    sum(float(Normal(math.sqrt(a) * x[:, i, j], math.sqrt(1 - a)).log_prob(x_t[n, :, i, j]).sum()) for i, j in window)
                    for x in data
                ]
                weights = torch.tensor(densities, dtype=torch.float64).softmax(0)
                expected = sum(w * x[:, row, column].double() for w, x in zip(weights, data))
                assert found[n, :, row, column].tolist() == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("size", [7, 9, 101])
def test_windows_that_see_everything_give_the_ideal_denoiser(diffusion, size):
    data, x_t = draws(6, (2, 4, 4))[0], draws(3, (2, 4, 4))[1]
    whole = ideal_denoiser(x_t, 500, data, diffusion.alphas_cumprod)
    torch.testing.assert_close(patch_denoiser(x_t, 500, data, diffusion.alphas_cumprod, size), whole)


@pytest.mark.parametrize("size", [0, 2, -3])
def test_a_window_without_a_middle_is_refused(diffusion, size):
    with pytest.raises(ValueError, match=f"got {size}"):
        patch_denoiser(torch.zeros(1, 1, 2, 2), 5, torch.zeros(1, 1, 2, 2), diffusion.alphas_cumprod, size)


def test_posterior_weights_are_probabilities_that_favour_the_nearest(diffusion):
    data, x_t = draws(6, (2, 4, 4))[0], draws(3, (2, 4, 4))[1]
    weights = posterior_weights(x_t, 100, data, diffusion.alphas_cumprod)
    assert weights.sum(1).tolist() == pytest.approx([1] * 3)
    nearest = (x_t.flatten(1)[:, None] - float(diffusion.alphas_cumprod[100]) ** 0.5 * data.flatten(1)).square().sum(2).argmin(1)
    assert weights.argmax(1).tolist() == nearest.tolist()


@pytest.mark.parametrize("betas", [[], [[0.1, 0.2]], [0.1, 0.0], [0.1, -0.2], [1.1], [float("nan")]])
def test_bad_betas_are_refused(betas):
    with pytest.raises(ValueError, match="betas must be a non-empty row of numbers in"):
        Diffusion(torch.tensor(betas))


def test_output_without_a_variance_is_refused(diffusion):
    x_0, noise = draws(count=2)
    with pytest.raises(ValueError, match=r"model_output must be \(5, 4, 4, 4\) \(noise and variance\), got \(5, 2, 4, 4\)"):
        hybrid_loss(noise, x_0, x_0, noise, SOME_T, diffusion)


@pytest.mark.parametrize("shape", [(0, 3), (5, 4)])
def test_a_set_of_another_shape_or_none_is_refused(diffusion, shape):
    with pytest.raises(ValueError, match=r"data must be \(M, 3\) with M > 0, got"):
        ideal_denoiser(torch.zeros(2, 3), 0, torch.zeros(shape), diffusion.alphas_cumprod)


@pytest.mark.parametrize("t", [-1, 1000, 0.5])
def test_the_ideal_denoiser_takes_timesteps_of_the_chain_alone(t):
    with pytest.raises(ValueError, match="timesteps must be whole numbers in 0..999"):
        ideal_denoiser(torch.zeros(1, 2), torch.tensor(t), torch.zeros(3, 2), Diffusion().alphas_cumprod)


def test_float64_is_served_in_float64():
    """One conversion after another gives the first back to float64's precision, at both ends of the chain."""
    d = Diffusion()
    x_0, noise = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (0, 500, 999):
        x_t = d.q_sample(x_0, t, noise)
        torch.testing.assert_close(x_t, d.alphas_cumprod[t].sqrt() * x_0 + (1 - d.alphas_cumprod[t]).sqrt() * noise, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(d.predict_x0(x_t, t, noise), x_0, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(d.predict_eps(x_t, t, x_0), noise, rtol=1e-9, atol=1e-9)
    assert d.q_sample(x_0.float(), 500, noise.float()).dtype == torch.float32


def test_betas_of_a_list_keep_their_precision():
    assert Diffusion([0.1, 0.2]).alphas_cumprod.tolist() == pytest.approx([0.9, 0.72], abs=1e-15)


def test_shapes_that_would_broadcast_are_refused():
    d, x_0, t = Diffusion(), torch.zeros(3, 4, 4, 4), torch.tensor([1, 2, 3])
    output = torch.zeros(3, 8, 4, 4)
    with pytest.raises(ValueError, match=r"noise must have the shape of x_0, \(3, 4, 4, 4\), got \(1, 4, 4, 4\)"):
        hybrid_loss(output, x_0, x_0, torch.ones(1, 4, 4, 4), t, d)
    with pytest.raises(ValueError, match="x_t must have the shape of x_0"):
        hybrid_loss(output, x_0, x_0[:1], torch.ones(3, 4, 4, 4), t, d)
    with pytest.raises(ValueError, match="noise must have the shape of x_0"):
        d.q_sample(x_0, t, torch.ones(1, 4, 4, 4))
    with pytest.raises(ValueError, match="one timestep for all, or one for each of 3: got 2"):
        d.q_sample(x_0, t[:2], x_0)
    with pytest.raises(ValueError, match="whole numbers"):
        d.q_sample(x_0, 0.5, x_0)


def test_numbers_are_pictures_of_one_and_no_pictures_have_no_answers():
    a, data = Diffusion().alphas_cumprod, torch.randn(7, generator=torch.Generator().manual_seed(0))
    x_t = torch.tensor([0.3, -1.0])
    expected = [float((torch.softmax(-((x - a[5].sqrt() * data) ** 2) / (2 * (1 - a[5])), 0) * data).sum()) for x in x_t]
    assert ideal_denoiser(x_t, 5, data, a).tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(ideal_denoiser(x_t, 5, data, a.numpy()), ideal_denoiser(x_t, 5, data, a))
    assert ideal_denoiser(torch.zeros(0, 2), torch.zeros(0).long(), torch.randn(5, 2), a).shape == (0, 2)


def test_without_any_noise_the_nearest_picture_is_returned():
    data = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ideal_denoiser(data[3:4] + 1e-3, 0, data, torch.tensor([1.0, 0.5])), data[3:4])
