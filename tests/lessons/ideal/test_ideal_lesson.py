"""Lesson 01: closed forms against brute force and simulation; the committed tables can be built again."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from difftuning.data.latents import encode_latents
from difftuning.data.tasks import load_source, load_task
from difftuning.diffusion.process import Diffusion
from difftuning.lessons.explorers import fixed_size_png
from difftuning.lessons.ideal import figures, planar, transfer
from difftuning.models.loading import load_pretrained
from difftuning.studies.gains import read_table
from difftuning.support.world import data_folder, world_version

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
        pytest.skip(f"transfer.csv is of world {table.world.iloc[0]}: run `python -m difftuning.lessons.ideal.transfer`")
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


def small_table():
    """Two sets, one source size, two timesteps; windows of 3 are best on the held-out source at t = 10, of 1 at t = 30."""
    errors = {"network": (0.1, 0.2), "ideal": (0.4, 0.5), "gaussian": (0.2, 0.3), "patches of 1": (0.3, 0.6), "patches of 3": (0.2, 0.9)}
    return pd.DataFrame(
        {"world": "2", "task": task, "source_size": 50, "denoiser": name, "t": t, "error": scale * error, "standard_error": 0.01}
        for task, scale in ((transfer.HELD_OUT, 1), ("digits", 2))
        for name, pair in errors.items()
        for t, error in zip((10, 30), pair)
    )


def test_the_best_sizes_are_those_of_the_windows_drawn():
    assert transfer.best_sizes(small_table()).loc[50].to_dict() == {10: 3, 30: 1}


def test_leaving_the_noise_in_costs_what_its_error_is_on_any_data():
    """x_t / sqrt(a) against x_0, by simulation on pictures of no special kind."""
    shown = transfer.comparison(small_table(), A)
    left = shown[shown.denoiser == "left"].set_index(["task", "t"]).error
    data = torch.rand(200, 4, 8, 8, generator=torch.Generator().manual_seed(0)) ** 3
    for t in (10, 30):
        x_t = transfer.noised(data, t, Diffusion())
        assert left["digits", t] == left[transfer.HELD_OUT, t] == pytest.approx(float((x_t / A[t].sqrt() - data).square().mean()), rel=0.02)


def test_ratios_compare_denoisers_of_one_source_size_on_the_same_set():
    larger = small_table().assign(source_size=500).query("denoiser != 'network'")
    shown = transfer.comparison(pd.concat([small_table(), larger], ignore_index=True), A)
    assert transfer.ratio(shown, 500, "ideal", "network").loc["digits"].tolist() == pytest.approx([4, 2.5])
    assert transfer.ratio(shown, 50, "patches", "gaussian").loc["digits"].tolist() == pytest.approx([1, 2])


def test_figures_say_what_is_to_be_seen():
    shown = transfer.comparison(small_table(), A)
    assert "at t = 10, from the lowest: left as it is" in figures.error_curves(shown, "digits", 50).get_label()
    assert "whole pictures go from 0.8 to 0.8" in figures.size_curves(shown, "digits", (10, 30)).get_label()
    counts = {"digits": ([0, 999], [1.0, 199.0])}
    assert "from 1 at t = 0 to 199 at t = 999" in figures.averaging_curves(counts).get_label()
    images = {"picture": torch.zeros(2, 3, 8, 8), "network": torch.full((2, 3, 8, 8), 0.5)}
    assert "network 0.25" in figures.denoised_pictures(images, 60).get_label()


def test_what_leaves_the_axis_does_not_stretch_it():
    shown = transfer.comparison(small_table().replace({"t": {30: 900}}), A)
    low, high = figures.error_curves(shown, "digits", 50).axes[0].get_ylim()
    assert shown.error.max() > 1000 and (low, high) == pytest.approx((0.1 / 1.5, 2 * 0.6 * 1.5))


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


def test_the_unavoidable_loss_in_x_0_is_that_of_the_perfect_denoiser():
    """By its own squared error of x_0, without the detour through the noise."""
    _, arc = planar.spiral_world()
    x_0 = arc.sample(20_000, seed=5)
    for t, loss in zip((20, 400), planar.unavoidable_loss(arc, [20, 400], of="x_0", points=20_000)):
        noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(t))
        x_t = planar.DIFFUSION.q_sample(x_0, torch.full((len(x_0),), t), noise)
        assert float(loss) == pytest.approx(float((arc.denoise(x_t, t) - x_0).square().mean()), rel=0.05)
    with pytest.raises(ValueError, match="noise or x_0"):
        planar.unavoidable_loss(arc, [20], of="x0")


def test_error_rows_are_own_errors_with_the_facts_about_the_network():
    spiral, arc = planar.spiral_world()
    network = planar.PlanarDenoiser()
    rows = pd.DataFrame(planar.error_rows(network, method="none", step=3))
    assert set(rows.method) == {"none"} and set(rows.step) == {3} and rows.groupby("data").size().to_dict() == {"source": 15, "target": 15}
    for data, world, label in (("target", arc, planar.TARGET), ("source", spiral, planar.NULL)):
        assert rows[rows.data == data].error.tolist() == planar.own_error(network, world, label).tolist()


def test_a_ratio_is_paired_by_seed_and_undecided_where_its_interval_holds_1():
    """Seeds differ a hundredfold; plain is 2, 2.2 and 1.8 times worse at t = 5, and 2, 1 and 0.5 times at t = 10."""
    rows = []
    for seed, scale in enumerate((1, 10, 100)):
        for t, factor in ((5, (2, 2.2, 1.8)[seed]), (10, (2, 1, 0.5)[seed])):
            base = {"seed": seed, "data": "target", "t": t}
            errors = {"plain": factor * scale, "Diff-Tuning": scale, "pre-trained": 3 * scale}
            steps = {"pre-trained": 0}
            rows += [base | {"method": method, "step": steps.get(method, 250), "error": error} for method, error in errors.items()]
    table = pd.DataFrame(rows)
    found = planar.ratios(table, "target", 250, "plain")
    assert found.ratio.tolist() == pytest.approx([(2 * 2.2 * 1.8) ** (1 / 3), 1])
    assert found.verdict.tolist() == ["Diff-Tuning is better", "undecided"]
    logs = np.log([2, 2.2, 1.8])  # Student's t at 97.5 % with 2 degrees of freedom is 4.3027
    assert found.high[5] == pytest.approx(np.exp(logs.mean() + 4.3027 * logs.std(ddof=1) / math.sqrt(3)), rel=1e-4)
    assert planar.ratios(table, "target", 250, "Diff-Tuning", "plain").verdict[5] == "Diff-Tuning is better"
    assert planar.ratios(table, "target", 250, "pre-trained").ratio[10] == pytest.approx(3)


def test_the_legend_keeps_its_place_and_names_the_stars():
    table = read_table("planar")
    live = table[(table.seed == 0) & (table.step == 500) & (table.method == "plain")]
    with_stars = figures.own_error_curves(table, 500, "target", live)
    assert "your runs" in [text.get_text() for text in with_stars.legends[0].get_texts()]
    places = []
    for step in (500, 4000):
        figure = figures.own_error_curves(table, step, "target")
        fixed_size_png(figure)  # draws it, layout and all
        assert figure.axes[0].get_legend() is None
        places.append([*figure.legends[0].get_window_extent().bounds, *figure.axes[0].get_window_extent().bounds])
    assert places[0] == pytest.approx(places[1], abs=0.5)
    legend_top, axes_bottom = places[0][1] + places[0][3], places[0][5]
    assert legend_top < axes_bottom


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
