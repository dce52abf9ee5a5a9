"""Lesson 03's arithmetic against brute force, the training code's own settings, and closed forms worked out another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from difftuning.config import DiffTuningConfig
from difftuning.diffusion.losses import hybrid_loss
from difftuning.diffusion.process import Diffusion
from difftuning.diffusion.timestep_weights import min_snr_weight, p2_weight, timestep_distribution
from difftuning.lessons.weights import dashboard, figures, gradient_noise
from difftuning.lessons.weights.balance import (
    balance,
    effective_by_tenth,
    effective_number,
    eps_multiplier,
    mean_timestep,
    per_tenth,
    two_families,
)
from difftuning.support.random import seeded_generator
from difftuning.training.fine_tune import split_batch, timestep_sampling
from difftuning.training.objective import Objective, Stream

DIFFUSION = Diffusion()
T = DIFFUSION.num_timesteps
RISING, FALLING = (timestep_distribution(T, 1.0, descending=side) for side in (False, True))


# The balance of the two terms


@pytest.mark.parametrize("bank_weight, crossing", [(0.1, 90), (0.43, 300), (0.5, 333), (1.0, 500), (1e-9, 0)])
def test_the_crossing_solves_the_official_weights_by_hand(bank_weight, crossing):
    """t + 1 = lambda (T - t): t = (lambda T - 1) / (1 + lambda), rounded up; a tie counts for reconsolidation."""
    assert balance(DIFFUSION, bank_weight=bank_weight).crossing == crossing


def test_the_papers_weights_cross_where_each_is_a_half():
    """(t/T)^tau = 1/2, the first whole t from there on; masses 1 / (1 + tau) and the rest, as integrals."""
    found = two_families(DIFFUSION, [0.5, 1.0, 2.0])
    assert found["paper, as weights"].tolist() == [math.ceil(T * 0.5 ** (1 / tau)) for tau in found.index]
    assert np.allclose(found["mean psi"], [1 / (1 + tau) for tau in found.index], atol=1e-3)
    assert np.allclose(found["mean psi"] + found["mean xi"], 1) and found["crossing: official"].eq(500).all()


@pytest.mark.parametrize("family, parameter", [("official", 2.0), ("paper", 0.5), ("threshold", 0.3), ("sigmoid", 0.6)])
def test_retention_outweighs_below_the_crossing_and_not_at_it(family, parameter):
    found = balance(DIFFUSION, family=family, parameter=parameter, bank_weight=0.7)
    ahead = found.bank.weight > found.target.weight
    assert 0 < found.crossing < T
    assert bool(ahead[: found.crossing].all()) and not bool(ahead[found.crossing :].any())
    assert bool((found.retention_share[: found.crossing] > 0.5).all())


def test_where_retention_has_no_weight_there_is_no_law_and_no_crossing():
    found = balance(DIFFUSION, family="paper", parameter=0.0)
    assert found.bank.distribution is None and found.crossing == 0 and float(found.bank.pictures.sum()) == 0 == found.bank.effective


@pytest.mark.parametrize("family, parameter", [("official", 1.5), ("paper", 2.0), ("threshold", 0.4), ("sigmoid", 0.4)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_balance_is_what_the_training_loop_does(family, parameter, weighted):
    """Laws, weights and counts are those of `fine_tune`; its expected loss at each t is law x importance x stream weight."""
    config = DiffTuningConfig(
        steps=1,
        family=family,
        reconsolidation_power=parameter,
        retention_power=parameter,
        weighted=weighted,
        bank_share=0.29,
        bank_weight=0.3,
    )
    use = "weight the loss" if weighted else "sample t"
    found = balance(DIFFUSION, family=family, parameter=parameter, use=use, bank_share=0.29, bank_weight=0.3)
    counts = split_batch(config, bank=object())
    for side, role, count, factor in ((found.target, "reconsolidation", counts[0], 1.0), (found.bank, "retention", counts[1], 0.3)):
        drawn, importance = timestep_sampling(config, T, role)
        importance = torch.ones(T) if importance is None else importance
        torch.testing.assert_close(side.distribution, drawn)
        torch.testing.assert_close(side.weight, factor * T * drawn * importance)
        assert float(side.pictures.sum()) == pytest.approx(count)


def test_pictures_on_a_tenth_are_what_draws_give():
    draws = torch.multinomial(FALLING, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    counted = torch.bincount(draws // 100, minlength=10) / 200_000 * 6
    torch.testing.assert_close(balance(DIFFUSION).bank.pictures, counted.double(), atol=0.02, rtol=0)


def test_the_share_moves_the_pictures_and_not_the_weights():
    few, many = (balance(DIFFUSION, bank_share=share) for share in (0.1, 0.5))
    assert torch.equal(few.bank.weight, many.bank.weight) and torch.equal(few.target.weight, many.target.weight)
    assert float(few.bank.pictures.sum()) == pytest.approx(3) and float(many.bank.pictures.sum()) == pytest.approx(16)


def test_p2_and_min_snr_multiply_both_terms_and_leave_the_balance():
    plain = balance(DIFFUSION)
    for scheme, expected in (("p2", p2_weight(DIFFUSION.snr, gamma=0.5)), ("min_snr", min_snr_weight(DIFFUSION.snr))):
        found = balance(DIFFUSION, loss_weighting=scheme)
        torch.testing.assert_close(found.target.weight / plain.target.weight, expected)
        torch.testing.assert_close(found.retention_share, plain.retention_share)
        assert torch.equal(eps_multiplier(DIFFUSION, scheme), expected)


def test_the_effective_number_by_hand():
    uniform = timestep_distribution(T, 0)
    halves = (torch.arange(T) % 2).double()
    assert effective_number(32, uniform, torch.ones(T)) == pytest.approx(32)
    assert effective_number(32, uniform, halves) == pytest.approx(16)
    assert effective_number(32, uniform, T * RISING) == pytest.approx(24, rel=1e-2)  # E[w]^2 / E[w^2] = 1 / (4/3)
    assert effective_number(32, uniform, torch.zeros(T)) == 0


def test_the_effective_number_predicts_the_variance_of_a_weighted_mean():
    """Independent unit-variance numbers, weighted and divided by the expected weight: variance 1 / effective number."""
    generator = torch.Generator().manual_seed(0)
    t = torch.randint(T, (20_000, 26), generator=generator)
    numbers = torch.randn(20_000, 26, generator=generator, dtype=torch.float64)
    means = ((T * RISING)[t] * numbers).mean(1)
    assert float(1 / means.var()) == pytest.approx(effective_number(26, timestep_distribution(T, 0), T * RISING), rel=0.05)


def test_the_effective_number_of_a_tenth_by_hand():
    """Under uniform t a tenth has n / 10 pictures: all of them at equal weights, half with every other one at 0, none at 0."""
    uniform = timestep_distribution(T, 0)
    weights = torch.cat([torch.full((100,), 7.0), (torch.arange(100) % 2).double(), torch.zeros(100), torch.ones(700)]).double()
    found = effective_by_tenth(30, uniform, weights)
    assert found.tolist() == pytest.approx([3, 1.5, 0] + [3] * 7)
    assert float(found.sum()) > effective_number(30, uniform, weights)  # between tenths weights differ, too


@pytest.mark.parametrize("tenth", [0, 1, 9])
def test_the_effective_number_of_a_tenth_predicts_the_variance_of_its_weighted_mean(tenth):
    """A tenth's part of a step's mean, over draws of t and of unit-variance numbers of mean 0: E[w]^2 over the variance."""
    uniform, weights = timestep_distribution(T, 0), T * RISING
    generator = torch.Generator().manual_seed(10)
    t = torch.randint(T, (40_000, 26), generator=generator)
    numbers = torch.randn(40_000, 26, generator=generator, dtype=torch.float64)
    parts = torch.where(t // 100 == tenth, weights[t] * numbers, 0.0).mean(1)
    expected = float((uniform * weights)[100 * tenth : 100 * tenth + 100].sum())
    assert expected**2 / float(parts.var()) == pytest.approx(float(effective_by_tenth(26, uniform, weights)[tenth]), rel=0.05)


@pytest.mark.parametrize("setting", [{}, {"family": "paper", "parameter": 0.5}, {"family": "threshold", "parameter": 0.35}])
def test_sampled_pictures_are_worth_their_number_on_every_tenth_and_weighted_ones_at_most(setting):
    sampled, weighted = (balance(DIFFUSION, use=use, **setting) for use in ("sample t", "weight the loss"))
    for side in (sampled.target, sampled.bank):
        torch.testing.assert_close(side.effective_tenths, side.pictures)
    for side in (weighted.target, weighted.bank):
        assert bool((side.effective_tenths <= side.pictures + 1e-9).all()) and side.effective <= float(side.effective_tenths.sum()) + 1e-9


def test_tenths_and_mean_timesteps():
    assert per_tenth(torch.arange(20)).tolist() == [1, 5, 9, 13, 17, 21, 25, 29, 33, 37]
    assert mean_timestep(RISING) == pytest.approx(666) and mean_timestep(FALLING) == pytest.approx(333)


# The toy


@pytest.mark.parametrize("spread, theta, t", [(0.5, 0.0, 0), (0.5, 0.7, 400), (3.0, -0.4, 150), (10.0, 0.2, 900)])
def test_the_toys_moments_are_gaussian_integrals(spread, theta, t):
    """Against Gauss-Hermite quadrature over data and noise, exact for polynomials of this degree."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    a = float(DIFFUSION.alphas_cumprod[t])
    x_0, eps = np.meshgrid(spread * nodes, nodes)
    x_t = a**0.5 * x_0 + (1 - a) ** 0.5 * eps
    g, probability = 2 * (theta * x_t - eps) * x_t, np.outer(weights, weights)
    mean, square = gradient_noise.toy_moments(DIFFUSION, spread=spread, theta=theta)
    assert float(mean[t]) == pytest.approx((probability * g).sum(), rel=1e-9)
    assert float(square[t]) == pytest.approx((probability * g**2).sum(), rel=1e-9)


def test_the_toys_gradient_is_autograds():
    t = torch.randint(T, (64,), generator=torch.Generator().manual_seed(1))
    got = gradient_noise.toy_gradients(DIFFUSION, t, spread=2.0, theta=0.3, generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    x_0, eps = (torch.randn(64, generator=generator, dtype=torch.float64) for _ in range(2))
    x_t = DIFFUSION.alphas_cumprod[t].sqrt() * 2 * x_0 + (1 - DIFFUSION.alphas_cumprod[t]).sqrt() * eps
    theta = torch.full((64,), 0.3, dtype=torch.float64, requires_grad=True)
    ((theta * x_t - eps) ** 2).sum().backward()
    torch.testing.assert_close(got, theta.grad)


def test_sampling_and_weighting_have_one_mean_and_the_variances_of_many_draws():
    found = gradient_noise.toy_comparison(DIFFUSION, RISING, spread=20.0)
    assert found["sampling"][0] == pytest.approx(found["weighting"][0], rel=1e-12)
    generator = torch.Generator().manual_seed(3)
    uniform = torch.randint(T, (400_000,), generator=generator)
    g = gradient_noise.toy_gradients(DIFFUSION, uniform, spread=20.0, generator=generator)
    assert float((T * RISING[uniform] * g).var()) == pytest.approx(found["weighting"][1], rel=0.03)
    drawn = torch.multinomial(RISING, 400_000, True, generator=generator)
    g = gradient_noise.toy_gradients(DIFFUSION, drawn, spread=20.0, generator=generator)
    assert float(g.var()) == pytest.approx(found["sampling"][1], rel=0.03)


def test_for_equally_long_gradients_weighting_costs_four_thirds():
    """T sum p^2 = 2 (2T + 1) / (3 (T + 1)) for p_i = (i + 1) / sum."""
    sampling, weighting = gradient_noise.second_moments(RISING, torch.ones(T))
    assert float(weighting / sampling) == pytest.approx(2 * (2 * T + 1) / (3 * (T + 1)), rel=1e-12)


def test_no_law_is_calmer_than_the_calmest():
    squares = torch.rand(T, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 0.01
    best, moment = gradient_noise.calmest_distribution(RISING, squares)
    assert float((RISING**2 * squares / best).sum()) == pytest.approx(float(moment))
    assert moment < min(gradient_noise.second_moments(RISING, squares))
    for other in (RISING, FALLING, timestep_distribution(T, 0), 0.9 * best + 0.1 / T):
        assert float((RISING**2 * squares / other).sum()) > float(moment)


# Gradients of a network


@pytest.fixture(scope="module")
def model(small_model):
    return small_model.with_denoiser(small_model.copy_denoiser())


def test_squared_lengths_are_those_of_backward(model):
    latents, labels = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5)), torch.tensor([2])
    found = gradient_noise.squared_lengths(model.denoiser, latents, labels, [30, 700], model.diffusion, each=2, seed=1)
    assert found.shape == (2, 2)
    generator = seeded_generator(1, "squared lengths", 700)
    torch.randint(1, (2,), generator=generator)
    eps, t = torch.randn(2, 4, 8, 8, generator=generator)[1:], torch.tensor([700])
    x_t = model.diffusion.q_sample(latents, t, eps)
    model.denoiser.zero_grad()
    hybrid_loss(model.denoiser(x_t, t, labels), latents, x_t, eps, t, model.diffusion).mean().backward()
    expected = sum(float(weight.grad.double().square().sum()) for weight in model.denoiser.parameters() if weight.grad is not None)
    model.denoiser.zero_grad()
    assert float(found[1, 1]) == pytest.approx(expected, rel=1e-4)


def objectives(model, law):
    latents = torch.randn(40, 4, 8, 8, generator=torch.Generator().manual_seed(6))
    labels = torch.zeros(40, dtype=torch.int64)
    sampling = Stream("target", latents, labels, 4, law)
    weighting = Stream("target", latents, labels, 4, timestep_distribution(T, 0), timestep_weight=T * law)
    return [Objective([stream], model.diffusion, 0) for stream in (sampling, weighting)]


def test_inner_products_survive_the_folding(model):
    pair = objectives(model, RISING)
    found = gradient_noise.compare_gradients(model.denoiser, pair, "target", count=3)
    whole = [
        torch.stack(
            [gradient_noise.gradient(model.denoiser, one.losses(model.denoiser, step, torch.device("cpu"))["target"]) for step in range(3)]
        )
        for one in pair
    ]
    exact = torch.einsum("iap,jbp->ijab", torch.stack(whole).double(), torch.stack(whole).double())
    lengths = torch.einsum("iiaa->ia", exact).sqrt()
    scale = lengths[:, None, :, None] * lengths[None, :, None, :]
    assert float(((found - exact) / scale).abs().max()) < 5 / gradient_noise.FOLDED**0.5


def test_folding_adds_up_pieces_whatever_the_length():
    rows = torch.randn(2, 3 * gradient_noise.FOLDED + 17, generator=torch.Generator().manual_seed(7))
    folded = [gradient_noise.fold(row) for row in rows]
    assert all(row.shape == (gradient_noise.FOLDED,) for row in folded)
    assert float(folded[0] @ folded[0]) == pytest.approx(float(rows[0] @ rows[0]), rel=0.02)
    assert abs(float(folded[0] @ folded[1])) < 0.02 * float(rows[0] @ rows[0])


def known_products(count: int, generator: torch.Generator) -> tuple[torch.Tensor, float]:
    """Gradients of known law: mean of squared length 4 both ways, variances 8 and 32 in 64 dimensions."""
    mean = torch.full((64,), 0.25, dtype=torch.float64)
    noise = torch.randn(2, count, 64, generator=generator, dtype=torch.float64) * torch.tensor([8.0, 32.0]).reshape(2, 1, 1).div(64).sqrt()
    rows = mean + noise
    return torch.einsum("iaf,jbf->ijab", rows, rows), 4.0


def test_estimates_of_known_gradients_are_unbiased():
    generator = torch.Generator().manual_seed(8)
    tables = [known_products(10, generator)[0] for _ in range(400)]
    estimates = {
        "variance": (lambda table: gradient_noise.variance(table, 0), 8.0),
        "variance of the other": (lambda table: gradient_noise.variance(table, 1), 32.0),
        "length": (lambda table: gradient_noise.between(table[0, 0]), 4.0),
        "distance": (lambda table: gradient_noise.distance(table), 0.0),
        "distance from half": (lambda table: gradient_noise.distance(table, factor=0.5), 1.0),
    }
    for name, (estimate, truth) in estimates.items():
        values = torch.stack([estimate(table) for table in tables])
        assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / 20, name


def test_the_jackknife_interval_holds_the_truth_about_95_times_in_100():
    generator = torch.Generator().manual_seed(9)

    def ratio(table):
        return gradient_noise.variance(table, 1) / gradient_noise.variance(table, 0)

    held = 0
    for _ in range(200):
        _, low, high = gradient_noise.interval(ratio, known_products(12, generator)[0])
        held += low < 4.0 < high
    assert 175 <= held <= 199


def test_on_a_network_the_means_agree_and_half_the_weights_do_not(model):
    table = gradient_noise.compare_gradients(model.denoiser, objectives(model, FALLING), "target", count=24)
    _, low, high = gradient_noise.interval(lambda t: gradient_noise.distance(t) / gradient_noise.between(t[0, 0]), table)
    _, half_low, _ = gradient_noise.interval(lambda t: gradient_noise.distance(t, factor=0.5) / gradient_noise.between(t[0, 0]), table)
    assert low < 0 < high and half_low > 0


# Figures


SETTING = {"family": "official", "parameter": 1.0, "use": "sample t", "bank_share": 0.2, "bank_weight": 0.1, "loss_weighting": "none"}


def test_the_dashboard_draws_the_balance():
    board = dashboard.Dashboard(DIFFUSION, most_weight=4.2, most_pictures=12)
    board.update(**SETTING)
    found = balance(DIFFUSION)
    assert board.lines["distribution"]["bank"].get_ydata() == pytest.approx((T * FALLING).numpy())
    assert board.lines["weight"]["target"].get_ydata() == pytest.approx(found.target.weight.numpy())
    assert [bar.get_height() for bar in board.pictures["bank"]] == pytest.approx(found.bank.pictures.tolist())
    assert board.says.get_text() == "t < 90" and [list(line.get_xdata()) for line in board.crossing] == [[90, 90]] * 2
    board.update(**SETTING | {"use": "weight the loss", "loss_weighting": "min_snr"})
    found = balance(DIFFUSION, use="weight the loss", loss_weighting="min_snr")
    for name, side in (("target", found.target), ("bank", found.bank)):
        assert [bar.get_height() for bar in board.worth[name]] == pytest.approx(side.effective_tenths.tolist())
        assert [bar.get_height() for bar in board.pictures[name]] == pytest.approx(side.pictures.tolist())
    assert board.worth["bank"][0].get_height() < 0.6 * board.pictures["bank"][0].get_height()


def test_the_dashboard_says_what_is_to_be_seen():
    label = dashboard.weights_figure(DIFFUSION, **SETTING).get_label()
    assert "outweighs reconsolidation: t < 90" in label and "26 target pictures of a step are worth 26.0" in label
    assert (
        "Measured at 1: 1.00 (0.80 to 1.30) for the target"
        in figures.variance_ratios([0, 1, 2], {"target": [0.5, 1.0, 2.0]}, 1, {"target": (1.0, 0.8, 1.3)}).get_label()
    )


def test_every_spread_of_the_toy_is_a_tick():
    spreads = [0.1, 1, 10, 100]
    ratios = {name: torch.tensor([0.5, 1.0, 2.0, 1.0]) for name in ("target", "bank")}
    right = figures.toy_curves(spreads, torch.rand(4, T) + 0.1, ratios, 10).axes[1]
    assert [label.get_text() for label in right.get_xticklabels()] == ["0.1", "1", "10", "100"]


def test_figures_carry_alt_text_and_labels():
    squares = torch.rand(3, T) + 0.1
    lengths = {name: torch.rand(10, 6) + 0.1 for name in ("target", "bank")}
    ratios = {name: torch.tensor([0.5, 1.0, 2.0]) for name in lengths}
    measured = dict.fromkeys(lengths, (1.0, 0.8, 1.3))
    drawn = [
        dashboard.weights_figure(DIFFUSION, **SETTING),
        figures.toy_curves([0.1, 1, 10], squares, ratios, 1),
        figures.length_curves(torch.arange(10) * 100, lengths),
        figures.variance_ratios([0, 1, 2], ratios, 1, measured),
    ]
    for figure in drawn:
        assert len(figure.get_label()) > 40 and figure._repr_png_().startswith(b"\x89PNG")
        assert all(axis.get_xlabel() for axis in figure.axes)
        assert all(axis.get_ylabel() or [text.get_text() for text in axis.get_yticklabels()] == ["target", "bank"] for axis in figure.axes)
