"""Closed-form denoisers against loops, and Theorem 1 at both ends."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from difftuning.diffusion.ideal import ideal_denoiser, patch_denoiser, posterior_weights
from difftuning.diffusion.process import Diffusion
from tests.diffusion.helpers import SOME_T, draws


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


@pytest.mark.parametrize("shape", [(0, 3), (5, 4)])
def test_a_set_of_another_shape_or_none_is_refused(diffusion, shape):
    with pytest.raises(ValueError, match=r"data must be \(M, 3\) with M > 0, got"):
        ideal_denoiser(torch.zeros(2, 3), 0, torch.zeros(shape), diffusion.alphas_cumprod)


@pytest.mark.parametrize("t", [-1, 1000, 0.5])
def test_the_ideal_denoiser_takes_timesteps_of_the_chain_alone(t):
    with pytest.raises(ValueError, match="timesteps must be whole numbers in 0..999"):
        ideal_denoiser(torch.zeros(1, 2), torch.tensor(t), torch.zeros(3, 2), Diffusion().alphas_cumprod)


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
