"""Weights and distributions over the timestep, against numbers worked out by hand and brute-force gradients."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from difftuning.config import Family
from difftuning.diffusion.losses import eps_loss
from difftuning.diffusion.process import Diffusion
from difftuning.diffusion.timestep_weights import (
    FAMILIES,
    loss_weights,
    min_snr_weight,
    p2_weight,
    reconsolidation_distribution,
    reconsolidation_sigmoid,
    reconsolidation_threshold,
    reconsolidation_weight,
    reconsolidation_weighting,
    retention_distribution,
    retention_sigmoid,
    retention_threshold,
    retention_weight,
    retention_weighting,
    timestep_distribution,
)

T = 1000
EVERY_T = torch.arange(T)


def mean_timestep(p: Tensor) -> float:
    return float(sum(t * float(p) for t, p in enumerate(p)))


# The paper's form


@pytest.mark.parametrize(
    "t, tau, psi",
    [(0, 1, 0.0), (500, 1, 0.5), (999, 1, 0.999), (500, 2, 0.25), (100, 3, 0.001), (250, 0.5, 0.5), (0, 0, 1.0), (700, 0, 1.0)],
)
def test_paper_form_at_points_worked_out_by_hand(t, tau, psi):
    assert float(reconsolidation_weight(torch.tensor(t), T, tau)) == pytest.approx(psi, abs=1e-7)
    assert float(retention_weight(torch.tensor(t), T, tau)) == pytest.approx(1 - psi, abs=1e-7)


def test_paper_weights_are_float32_in_the_shape_of_t():
    for weight in (reconsolidation_weight, retention_weight):
        for t in (torch.tensor(3), torch.tensor([3, 4]), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)):
            assert weight(t, T).dtype == torch.float32
            assert weight(t, T).shape == t.shape


def test_reconsolidation_rises_and_retention_falls():
    for tau in (0.5, 1.0, 3.0):
        assert bool((reconsolidation_weight(EVERY_T, T, tau).diff() > 0).all())
        assert bool((retention_weight(EVERY_T, T, tau)[100:].diff() < 0).all())


# The official distribution


@pytest.mark.parametrize("power", [0, 0.5, 1, 2, 5])
def test_official_distribution_is_the_normalised_power_of_the_rank(power):
    total = sum((i + 1) ** power for i in range(50))
    expected = [(i + 1) ** power / total for i in range(50)]
    assert timestep_distribution(50, power).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("power", [0, 1, 3.5])
def test_the_descending_distribution_is_the_mirror_image(power):
    rising, falling = (timestep_distribution(T, power, descending=side) for side in (False, True))
    assert all(float(falling[t]) == float(rising[T - 1 - t]) for t in range(T))


@pytest.mark.parametrize("power", [0, 1, 50, 2000])
def test_it_is_float64_and_sums_to_one_even_for_huge_powers(power):
    p = timestep_distribution(T, power)
    assert p.dtype == torch.float64
    assert p.shape == (T,)
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)


def test_lessons_quote_means_666_and_333():
    assert mean_timestep(timestep_distribution(T, 1)) == pytest.approx(666, abs=1e-9)
    assert mean_timestep(timestep_distribution(T, 1, descending=True)) == pytest.approx(333, abs=1e-9)


def test_lessons_quote_one_and_nineteen_percent_below_t_100():
    assert float(timestep_distribution(T, 1)[:100].sum()) == pytest.approx(5050 / 500500)  # 1.0 %
    assert float(timestep_distribution(T, 1, descending=True)[:100].sum()) == pytest.approx(95050 / 500500)  # 19.0 %
    assert round(100 * 5050 / 500500, 1) == 1.0
    assert round(100 * 95050 / 500500, 1) == 19.0


@pytest.mark.parametrize("descending", [False, True])
def test_power_0_is_uniform(descending):
    assert timestep_distribution(T, 0, descending=descending).tolist() == pytest.approx([1 / T] * T, rel=1e-12)


def test_one_timestep_is_always_drawn():
    assert timestep_distribution(1, 3).tolist() == [1.0]


# Distributions and weights


@pytest.mark.parametrize("power", [0, 1, 2, 7])
@pytest.mark.parametrize("descending", [False, True])
def test_loss_weights_have_mean_one(power, descending):
    weights = loss_weights(timestep_distribution(T, power, descending=descending))
    assert float(weights.mean()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("power", [1, 3])
def test_sampling_and_weighting_have_the_same_expected_gradient(power, descending):
    """Every timestep of a short chain is run through, so both expectations are exact."""
    steps = 12
    diffusion = Diffusion(torch.linspace(1e-3, 0.3, steps))
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
    x_0, noise = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    p = timestep_distribution(steps, power, descending=descending)
    weights = loss_weights(p)

    def gradient(t: int) -> Tensor:
        times = torch.full((5,), t)
        x_t = diffusion.q_sample(x_0, times, noise)
        output = net(torch.cat([x_t, times.double()[:, None] / steps], dim=1))
        loss = (output - noise).square().mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])

    gradients = [gradient(t) for t in range(steps)]
    by_sampling = sum(float(p[t]) * g for t, g in enumerate(gradients))
    by_weighting = sum(float(weights[t]) * g / steps for t, g in enumerate(gradients))
    uniform = sum(g / steps for g in gradients)
    torch.testing.assert_close(by_sampling, by_weighting, rtol=1e-12, atol=1e-14)
    assert float((by_sampling - uniform).norm() / uniform.norm()) > 0.05  # the p matters here


# The two families of tau


def test_families_agree_at_one_up_to_a_timestep_and_normalisation():
    """Official 2 (i+1) / (T+1) and 2 (T-i) / (T+1); paper i/T and (T-i)/T, of mean about 1/2."""
    for weighting, gap in ((reconsolidation_weighting, 1 / T), (retention_weighting, 0.0)):
        official, paper = (weighting(family, T, 1) for family in ("official", "paper"))
        brought_over = official * (T + 1) / (2 * T)
        assert float((brought_over - paper).abs().max()) == pytest.approx(gap, abs=1e-6)
        assert float(official.mean()) == pytest.approx(1)
        assert float(paper.mean()) == pytest.approx(0.5, abs=1 / T)


@pytest.mark.parametrize("tau", [2, 3, 5])
def test_retention_families_part_above_one(tau):
    """Half way along, the official distribution keeps 2^-tau of its top and the paper's weight 1 - 2^-tau."""
    official, paper = (retention_weighting(family, T, tau) for family in ("official", "paper"))
    assert float(official[500] / official[0]) == pytest.approx(2.0**-tau, rel=0.01)
    assert float(paper[500] / paper[0]) == pytest.approx(1 - 2.0**-tau, rel=0.01)
    assert mean_timestep(retention_distribution("official", T, tau)) < 333 - 50
    assert mean_timestep(retention_distribution("paper", T, tau)) > 333 + 30


def test_paper_terms_keep_masses_one_to_tau():
    for tau in (0.5, 1, 3):
        psi, xi = (weighting("paper", T, tau).mean() for weighting in (reconsolidation_weighting, retention_weighting))
        assert float(xi / psi) == pytest.approx(tau, rel=0.01)


ROLES = [(reconsolidation_weighting, reconsolidation_distribution), (retention_weighting, retention_distribution)]


@pytest.mark.parametrize("weighting, distribution", ROLES, ids=["reconsolidation", "retention"])
@pytest.mark.parametrize("family, parameter", [("official", 2), ("paper", 2), ("threshold", 0.3), ("sigmoid", 0.3)])
def test_t_is_drawn_in_proportion_to_its_familys_weighting(family, parameter, weighting, distribution):
    weights, p = weighting(family, T, parameter), distribution(family, T, parameter)
    assert weights.dtype == p.dtype == torch.float64
    assert float(p.sum()) == pytest.approx(1)
    torch.testing.assert_close(p * weights.sum(), weights)


def test_a_familys_weighting_is_the_function_of_its_name():
    named = {
        "paper": (reconsolidation_weight, retention_weight),
        "threshold": (reconsolidation_threshold, retention_threshold),
        "sigmoid": (reconsolidation_sigmoid, retention_sigmoid),
    }
    for family, (psi, xi) in named.items():
        assert reconsolidation_weighting(family, T, 0.4).tolist() == psi(EVERY_T, T, 0.4).tolist()
        assert retention_weighting(family, T, 0.4).tolist() == xi(EVERY_T, T, 0.4).tolist()
    for weighting, descending in ((reconsolidation_weighting, False), (retention_weighting, True)):
        expected = loss_weights(timestep_distribution(T, 2, descending=descending))
        assert torch.equal(weighting("official", T, 2), expected)


def test_the_swapped_control_is_the_official_family_with_its_two_halves_exchanged():
    assert torch.equal(reconsolidation_distribution("swapped", T, 2), retention_distribution("official", T, 2))
    assert torch.equal(retention_distribution("swapped", T, 2), reconsolidation_distribution("official", T, 2))


def test_the_table_has_the_families_that_the_settings_name():
    assert set(FAMILIES) == set(get_args(Family))


# Threshold and sigmoid


@pytest.mark.parametrize("threshold, above", [(0.0, 1000), (0.25, 750), (0.7, 300), (1.0, 0)])
def test_threshold_switches_at_its_fraction_of_the_chain(threshold, above):
    weight = reconsolidation_threshold(EVERY_T, T, threshold)
    assert weight.tolist() == [0.0] * (T - above) + [1.0] * above
    assert (weight + retention_threshold(EVERY_T, T, threshold)).tolist() == [1.0] * T


def test_sigmoid_is_a_soft_threshold():
    rising = reconsolidation_sigmoid(EVERY_T, T, 0.4)
    falling = retention_sigmoid(EVERY_T, T, 0.4)
    assert float(rising[400]) == pytest.approx(0.5)
    assert float(rising[450]) == pytest.approx(1 / (1 + 2.718281828459045**-1))  # one width above
    assert float(falling[350]) == pytest.approx(1 / (1 + 2.718281828459045**-1))
    assert bool((rising.diff() >= 0).all())
    torch.testing.assert_close(rising + falling, torch.ones(T))
    far = (EVERY_T - 400).abs() > 350
    torch.testing.assert_close(rising[far], reconsolidation_threshold(EVERY_T, T, 0.4)[far], atol=1e-3, rtol=0)


# P2 and Min-SNR


def test_p2_closed_form():
    snr = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    assert p2_weight(snr).tolist() == pytest.approx([1, 1 / 2, 1 / 4])
    assert p2_weight(snr, k=2, gamma=0.5).tolist() == pytest.approx([2**-0.5, 3**-0.5, 5**-0.5])
    assert p2_weight(snr, gamma=0).tolist() == [1, 1, 1]


def test_min_snr_closed_form():
    snr = torch.tensor([0.01, 1.0, 5.0, 50.0], dtype=torch.float64)
    assert min_snr_weight(snr).tolist() == pytest.approx([1, 1, 1, 0.1])
    assert min_snr_weight(snr, gamma=1).tolist() == pytest.approx([1, 1, 0.2, 0.02])


def test_min_snr_weight_is_one_where_nothing_but_noise_is_left():
    assert min_snr_weight(torch.zeros(1)).tolist() == [1.0]


def test_min_snr_is_min_of_snr_and_gamma_on_the_x_0_loss():
    """||eps - eps'||^2 = SNR ||x_0 - x_0'||^2, so the eps weight must carry 1 / SNR."""
    diffusion = Diffusion()
    torch.manual_seed(0)
    t = torch.tensor([0, 10, 200, 500, 900])
    x_0, noise, output = (torch.randn(5, 2, 3, 3, dtype=torch.float64) for _ in range(3))
    x_t = diffusion.q_sample(x_0, t, noise)
    on_eps = min_snr_weight(diffusion.snr[t]) * (output - noise).square().flatten(1).mean(1)
    x_0_error = (diffusion.predict_x0(x_t, t, output) - x_0).square().flatten(1).mean(1)
    on_x_0 = torch.tensor([min(float(snr), 5.0) for snr in diffusion.snr[t]], dtype=torch.float64) * x_0_error
    torch.testing.assert_close(on_eps, on_x_0, rtol=1e-4, atol=0)
    torch.testing.assert_close(eps_loss(output, noise), (output - noise).square().flatten(1).mean(1), rtol=1e-5, atol=0)


# Errors


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: retention_weight(torch.tensor([5, 1000]), 1000), "timestep 1000 is outside 0..999"),
        (lambda: reconsolidation_weight(torch.tensor([5, -1]), 1000), "timestep -1 is outside 0..999"),
        (lambda: retention_weight(torch.tensor(0), 1000, -0.5), "tau must be at least 0, got -0.5"),
        (lambda: reconsolidation_weight(torch.tensor(0), 1000, float("nan")), "tau must be at least 0, got nan"),
        (lambda: reconsolidation_weight(torch.tensor([], dtype=torch.int64), 0), "num_timesteps must be at least 1, got 0"),
        (lambda: retention_weight(torch.tensor([1.0, float("nan")]), 1000), "timestep nan is outside 0..999"),
        (lambda: timestep_distribution(1000, float("inf")), "power must be finite, got inf"),
        (lambda: timestep_distribution(1000, -2), "power must be at least 0, got -2"),
        (lambda: timestep_distribution(0, 1), "num_timesteps must be at least 1, got 0"),
        (lambda: reconsolidation_threshold(torch.tensor(0), 1000, 1.5), "threshold must be at least 0 and at most 1, got 1.5"),
        (lambda: retention_sigmoid(torch.tensor(0), 1000, -0.1), "threshold must be at least 0 and at most 1, got -0.1"),
        (lambda: reconsolidation_weighting("offical", 1000, 1), "unknown family 'offical': choose one of official, paper"),
        (lambda: retention_distribution("paper", 1000, 0), "paper family at 0 gives retention no weight"),
        (lambda: reconsolidation_distribution("threshold", 1000, 1.0), "threshold family at 1.0 gives reconsolidation no weight"),
    ],
)
def test_errors_name_the_bad_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_weights_of_plain_numbers_and_lists():
    assert loss_weights([0.25, 0.75]).tolist() == [0.5, 1.5]
    assert float(p2_weight(10.0)) == pytest.approx(1 / 11) and float(min_snr_weight(10.0)) == 0.5
    assert min_snr_weight(np.array([1.0, 50.0])).tolist() == [1.0, 0.1]
