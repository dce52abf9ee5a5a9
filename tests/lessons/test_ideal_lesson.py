"""Lesson 01: closed forms against brute force and simulation; the committed tables can be built again."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from difftuning.data import load_source, load_task
from difftuning.diffusion import Diffusion
from difftuning.files import data_folder
from difftuning.latents import encode_latents
from difftuning.lessons import planar, transfer
from difftuning.pretrained import load_pretrained
from difftuning.result_tables import world_version

A = Diffusion().alphas_cumprod
slow = pytest.mark.slow


# The best linear denoiser


@pytest.mark.parametrize("t", [10, 300, 900])
def test_gaussian_denoiser_is_the_conditional_mean_of_a_joint_gaussian(t):
    """E[x | y] = mean_x + C_xy C_yy^-1 (y - mean_y), with the joint covariance estimated from noised data."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    data = torch.randn(400, 3, generator=generator, dtype=torch.float64) @ mix + 1
    a = float(A[t])
    x_t = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    covariance = np.cov(data.numpy(), rowvar=False)
    joint_xy, joint_yy = math.sqrt(a) * covariance, a * covariance + (1 - a) * np.eye(3)
    mean = data.mean(0).numpy()
    expected = mean + (joint_xy @ np.linalg.inv(joint_yy) @ (x_t.numpy() - math.sqrt(a) * mean).T).T
    found = transfer.gaussian_denoiser(x_t, t, data, A)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)


def test_no_linear_denoiser_has_a_lower_error_on_the_data_it_was_made_from():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(500, 2, generator=generator, dtype=torch.float64) @ torch.tensor([[1.0, 0.6], [0, 0.3]], dtype=torch.float64)
    noise = torch.randn(40, 500, 2, generator=generator, dtype=torch.float64)
    t = 400
    x_t = (A[t].sqrt() * data + (1 - A[t]).sqrt() * noise).flatten(0, 1)
    x_0 = data.expand(40, -1, -1).flatten(0, 1)
    error = (transfer.gaussian_denoiser(x_t, t, data, A) - x_0).square().mean()
    design = torch.cat([x_t, torch.ones(len(x_t), 1, dtype=torch.float64)], 1)
    best = torch.linalg.lstsq(design, x_0).solution
    assert float(error) == pytest.approx(float((design @ best - x_0).square().mean()), rel=5e-3)


# The table of transfer


@pytest.fixture(scope="module")
def tiny():
    return load_pretrained("tiny")


@slow
def test_a_part_of_the_transfer_table_comes_out_again(tiny):
    path = data_folder() / "results" / "transfer.csv"
    table = pd.read_csv(path, dtype={"world": str}) if path.is_file() else pd.DataFrame({"world": ["none"]})
    if set(table.world) != {world_version()}:
        pytest.skip(f"transfer.csv is of world {table.world.iloc[0]}: run `python -m difftuning.lessons.transfer`")
    source = transfer.spread_over(encode_latents(tiny, load_source())["latents"], 500)
    task = load_task("kana", split="validation")
    latents = transfer.spread_over(encode_latents(tiny, task)["latents"], min(transfer.PICTURES, len(task)))
    kept = table[(table.task == "kana") & (table.source_size == 500)].set_index(["denoiser", "t"])
    rows = [row for row in transfer.transfer_errors(tiny, latents, source, [60, 500]) if row["denoiser"] != "network"]
    assert len(rows) == 2 * (2 + len(transfer.PATCHES))
    for row in rows:
        assert row["error"] == pytest.approx(kept.error[row["denoiser"], row["t"]], rel=1e-3), row


def test_the_window_is_chosen_on_held_out_source_pictures_alone():
    def rows(task, errors):
        return [{"task": task, "source_size": 50, "t": 10, "denoiser": name, "error": error} for name, error in errors.items()]

    source = rows(transfer.HELD_OUT, {"ideal": 0.1, "patches of 1": 0.5, "patches of 3": 0.4})
    target = rows("digits", {"ideal": 0.0, "patches of 1": 0.2, "patches of 3": 0.9})
    best = transfer.best_patches(pd.DataFrame(source + target))
    assert best.denoiser.tolist() == ["patches of 3"] * 2 and best[best.task == "digits"].error.tolist() == [0.9]


# The plane


def density(mixture: planar.Mixture, t: int) -> MixtureSameFamily:
    """The law of x_t, by torch.distributions."""
    a = float(A[t])
    scale = math.sqrt(a * mixture.std**2 + 1 - a)
    parts = Independent(Normal(math.sqrt(a) * mixture.means.double(), torch.tensor(scale, dtype=torch.float64)), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(mixture.means), dtype=torch.float64)), parts)


@pytest.mark.parametrize("t", [5, 150, 700])
def test_the_true_denoiser_follows_from_the_density_by_tweedies_formula(t):
    """E[x_0 | x_t] = (x_t + (1 - a) grad log p(x_t)) / sqrt(a), with the gradient by autograd."""
    spiral, _ = planar.spiral_world()
    a = float(A[t])
    x_t = density(spiral, t).sample((20,)).requires_grad_()
    score = torch.autograd.grad(density(spiral, t).log_prob(x_t).sum(), x_t)[0]
    expected = (x_t.detach() + (1 - a) * score) / math.sqrt(a)
    found = spiral.denoise(x_t.detach().float(), t).double()
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


def test_points_have_the_mixtures_mean_and_covariance():
    _, arc = planar.spiral_world()
    points = arc.sample(40_000, seed=0)
    single = MultivariateNormal(torch.zeros(2), arc.std**2 * torch.eye(2))
    covariance = torch.cov(arc.means.T, correction=0) + single.covariance_matrix
    torch.testing.assert_close(points.mean(0), arc.means.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(points.T), covariance, atol=0.02, rtol=0)


def test_own_error_and_unavoidable_loss_add_up_to_the_loss():
    """Pythagoras: E|eps - net|^2 = E|eps - true|^2 + E|true - net|^2, for a network that knows nothing."""
    _, arc = planar.spiral_world()
    zero = lambda x_t, t, labels: torch.zeros_like(x_t)  # noqa: E731
    t, points = 300, 40_000
    (fraction,) = planar.own_error(zero, arc, planar.TARGET, [t], points=points)
    x_0 = arc.sample(points, seed=1)
    noise = torch.randn(points, 2, generator=torch.Generator().manual_seed(2))
    x_t = planar.DIFFUSION.q_sample(x_0, torch.full((points,), t), noise)
    true = planar.DIFFUSION.predict_eps(x_t, torch.full((points,), t), arc.denoise(x_t, t))
    unavoidable, loss = (noise - true).square().mean(), noise.square().mean()
    assert float(fraction) == pytest.approx(float((loss - unavoidable) / unavoidable), rel=0.05)


def test_the_truth_has_no_own_error_and_another_truth_has():
    spiral, arc = planar.spiral_world()
    assert planar.own_error(arc, arc, planar.TARGET, [10, 500], points=500).tolist() == [0, 0]
    assert (planar.own_error(spiral, arc, planar.TARGET, [300, 700], points=500) > 0.3).all()


@slow
def test_a_part_of_the_planar_table_comes_out_again():
    """One seed, one method, its first mark; another machine's sums may differ in the last digits, and training spreads them."""
    table = pd.read_csv(data_folder() / "results" / "planar.csv")
    before = planar.pretrained_denoiser(seed=0)
    tuned = planar.tuned_denoisers(before, "Diff-Tuning", planar.MARKS[:1], seed=0)[planar.MARKS[0]]
    _, arc = planar.spiral_world()
    for method, step, network in (("pre-trained", 0, before), ("Diff-Tuning", planar.MARKS[0], tuned)):
        kept = table[(table.seed == 0) & (table.method == method) & (table.step == step) & (table.data == "target")]
        assert kept.t.tolist() == list(planar.TIMESTEPS)
        found = planar.own_error(network, arc, planar.TARGET)
        assert found.log().tolist() == pytest.approx(np.log(kept.error).tolist(), abs=0.3)
