"""Lesson 03: closed forms against brute force and simulation; the committed tables can be built again."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from difftuning.data.tasks import load_source
from difftuning.diffusion.ideal import ideal_denoiser, patch_denoiser
from difftuning.diffusion.process import Diffusion
from difftuning.lessons.exercises import NOT_WRITTEN, grade
from difftuning.lessons.ideal import figures, planar, transfer
from difftuning.models.loading import load_pretrained
from difftuning.support.world import data_folder, world_version

A = planar.DIFFUSION.alphas_cumprod
slow = pytest.mark.slow


# The best linear denoiser


@pytest.mark.parametrize("t", [10, 300, 900])
def test_the_linear_denoiser_is_the_conditional_mean_of_a_joint_gaussian(t):
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
    found = transfer.linear_denoiser(x_t, t, data, A)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)


# Denoisers compared


def doing_nothing():
    """A model that sees no noise anywhere, so that its answer is x_t / sqrt(a)."""
    predict = lambda x_t, t, labels: torch.zeros_like(x_t).repeat(1, 2, 1, 1)  # noqa: E731
    return SimpleNamespace(device=torch.device("cpu"), null_label=0, diffusion=planar.DIFFUSION, predict=predict)


@slow
def test_a_part_of_the_transfer_table_comes_out_again():
    path = data_folder() / "results" / "transfer.csv"
    table = pd.read_csv(path, dtype={"world": str})
    assert set(table.world) == {world_version()}
    tiny = load_pretrained("tiny")
    latents = transfer.latents_of(tiny, transfer.held_out_pictures("footwear"), transfer.PICTURES)
    kept = table[table.pictures == "footwear"].set_index(["denoiser", "t"])
    for row in transfer.transfer_errors(tiny, latents, transfer.latents_of(tiny, load_source()), [60]):
        assert row["error"] == pytest.approx(kept.error[row["denoiser"], row["t"]], rel=1e-2), row


def test_leaving_the_noise_in_costs_the_noise_level_squared_on_any_data():
    """x_t / sqrt(a) against x_0, by simulation on pictures of no special kind."""
    data = torch.rand(200, 4, 8, 8, generator=torch.Generator().manual_seed(0)) ** 3
    for t in (10, 400):
        left = transfer.learned_denoiser(doing_nothing(), transfer.noised(doing_nothing(), data, t), t)
        assert float(transfer.noise_level(t, A)) ** 2 == pytest.approx(float((left - data).square().mean()), rel=0.02)


def small_table():
    """Two sets and two timesteps; windows of 3 are best on the held-out source at t = 10, of 1 at t = 30, and never on digits."""
    errors = {"learned": (0.1, 0.2), "ideal": (0.4, 0.5), "patches of 1": (0.3, 0.6), "patches of 3": (0.2, 0.9)}
    swapped = errors | {"patches of 1": (0.2, 0.9), "patches of 3": (0.3, 0.6)}
    return pd.DataFrame(
        {"world": "3", "pictures": name, "denoiser": denoiser, "t": t, "error": error, "standard_error": 0.01}
        for name, own in ((transfer.HELD_OUT, errors), ("digits", swapped))
        for denoiser, pair in own.items()
        for t, error in zip((10, 30), pair)
    )


def test_the_window_is_chosen_on_held_out_source_pictures_alone():
    assert transfer.best_sizes(small_table()) == {10: 3, 30: 1}
    chosen = transfer.with_best_patches(small_table())
    shown = chosen.set_index(["pictures", "denoiser", "t"]).error
    assert [shown["digits", "patches", t] for t in (10, 30)] == [0.3, 0.9]
    assert [shown[transfer.HELD_OUT, "patches", t] for t in (10, 30)] == [0.2, 0.6]
    assert len(shown) == len(small_table()) + 2 * 2  # what was there stays
    assert set(zip(chosen.t, chosen["size"])) == {(10, 3), (30, 1)}


def test_the_lead_is_paired_and_its_interval_is_that_of_a_bootstrap():
    """Pictures of very different scale: without pairing the interval would be several times wider."""
    generator = torch.Generator().manual_seed(0)
    source, latents = torch.randn(300, 1, 2, 2, generator=generator), torch.randn(200, 1, 2, 2, generator=generator)
    latents[::4] *= 4
    t, model = 500, doing_nothing()
    found = transfer.advantages(model, latents, source, [t]).set_index("other")
    assert found.advantage["noisy"] == pytest.approx(0, abs=1e-6) and found.half_width["noisy"] == pytest.approx(0, abs=1e-6)
    x_t = transfer.noised(model, latents, t)
    ours = transfer.squared_errors(x_t / float(A[t]) ** 0.5, latents).numpy()
    theirs = transfer.squared_errors(transfer.linear_denoiser(x_t, t, source, A), latents).numpy()
    assert found.advantage["linear"] == pytest.approx(1 - ours.mean() / theirs.mean(), rel=1e-5)
    draws = np.random.default_rng(0).integers(200, size=(4000, 200))
    ratios = ours[draws].mean(1) / theirs[draws].mean(1)
    assert found.half_width["linear"] == pytest.approx(1.96 * ratios.std(), rel=0.15)


LEVELS = transfer.noise_level(range(1000), A)


def test_figures_say_what_is_to_be_seen():
    table = transfer.with_best_patches(small_table())
    text = figures.error_curves(table, [transfer.HELD_OUT, "digits"], LEVELS).get_label()
    assert "digits, network: 0.1 at t = 10, 0.2 at t = 30" in text and "digits, best window: 0.3 at t = 10" in text
    images = {"picture": torch.zeros(2, 3, 8, 8), "learned": torch.full((2, 3, 8, 8), 0.5)}
    assert "learned 0.25" in figures.compared_pictures(images, "t = 60").get_label()
    lead = pd.DataFrame({"other": other, "t": t, "advantage": t / 100, "half_width": 0.01} for other in figures.OTHERS for t in (10, 30))
    assert "over the best linear rule: 10 % at t = 10, 30 % at most" in figures.advantage_curves(lead, LEVELS, "digits").get_label()
    shares = figures.share_curves({"digits": pd.DataFrame({"two": [-30.0, 0.75]}, index=[10, 30])}, LEVELS)
    assert "digits, two: -3000 % at t = 10, 75 % at t = 30" in shares.get_label()
    assert shares.axes[0].get_ylim() == (-110, 115)  # great harm does not squeeze the rest
    runs = pd.DataFrame({"seed": seed, "t": t, "method": method, "excess": excess} for seed in (0, 1) for t in (10, 600)
                        for method, excess in (("pre-trained", 0.1), ("plain", 0.4), ("Diff-Tuning", 0.2 + 0.2 * seed)))  # fmt: skip
    assert "Diff-Tuning's over plain's at t = 10: 0.5 to 1" in figures.excess_curves(runs, LEVELS).get_label()
    known = pd.DataFrame([[0.1, 0.1, 0.4, 0.3], [0.7, 0.5, 0.7, 0.4]], columns=["network", "told", "source", "task"], index=[10, 999])
    assert "told: 0.1 at t = 10, 0.5 at t = 999" in figures.set_curves(known, LEVELS).get_label()
    cloud = {name: torch.ones(3, 2) for name in ("source", "target", "noisy", "by target")} | {"by source": torch.tensor([[4.0, 5.0]] * 3)}
    assert "5.00 away from the target's, excess error 20 %" in figures.plane(cloud, 30, 0.2, LEVELS).get_label()


def test_the_noise_axis_has_powers_of_ten_where_they_are():
    (top,) = figures.set_curves(pd.DataFrame([[0.1] * 4] * 2, columns=list("abcd"), index=[10, 999]), LEVELS).axes[0].child_axes
    assert [text.get_text() for text in top.get_xticklabels()] == ["0.01", "0.1", "1", "10"]
    for t, level in zip(top.get_xticks(), (0.01, 0.1, 1, 10)):
        assert math.sqrt((1 - A[int(t)]) / A[int(t)]) == pytest.approx(level, rel=0.15)


def test_the_share_of_the_lead_is_all_nothing_or_harm():
    errors = pd.DataFrame({"as it is": [1.0], "same": [1.0], "half": [2.0], "useless": [3.0], "harm": [5.0], "noisy": [3.0]}, index=[10])
    assert transfer.share_left(errors).loc[10].to_dict() == {"same": 1, "half": 0.5, "useless": 0, "harm": -1}


def test_telling_no_class_is_the_null_label():
    """And a class is its row: a model whose noise is its label shows which label it was given."""
    model = SimpleNamespace(
        device=torch.device("cpu"), null_label=7, label_names=["shoe", "bag"], diffusion=planar.DIFFUSION,
        predict=lambda x_t, t, labels: labels.view(-1, 1, 1, 1).expand(-1, 8, 8, 8).float(),
    )  # fmt: skip
    x_t, a = torch.zeros(2, 4, 8, 8), float(A[500])
    for label, row in ((None, 7), ("bag", 1), ("shoe", 0)):
        answer = transfer.learned_denoiser(model, x_t, 500, label)
        assert answer.flatten().tolist() == pytest.approx([-row * math.sqrt((1 - a) / a)] * answer.numel(), rel=1e-4)


def test_the_classes_that_are_told_are_classes_of_the_source():
    assert set(transfer.CLASSES) == set(transfer.TASKS)
    assert set(transfer.CLASSES.values()) <= set(load_pretrained("tiny").label_names)


def test_equal_weights_count_as_many_pictures_as_there_are():
    weights = torch.tensor([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])
    assert transfer.pictures_in_average(weights).tolist() == pytest.approx([4, 1, 2])


def test_the_left_out_denoiser_is_drawn_at_its_own_error():
    """The dotted line is the noise level squared, whatever the table holds."""
    axis = figures.error_curves(transfer.with_best_patches(small_table()), ["digits"], LEVELS).axes[0]
    (dotted,) = [line for line in axis.lines if line.get_linestyle() == ":"]
    assert dotted.get_ydata() == pytest.approx([float((1 - A[t]) / A[t]) for t in (10, 30)])


# What the lesson says of its tables


@pytest.mark.parametrize("task", transfer.TASKS)
def test_windows_miss_by_less_than_whole_pictures_and_the_network_alone_beats_doing_nothing(task):
    table = transfer.with_best_patches(pd.read_csv(data_folder() / "results" / "transfer.csv"))
    by = {name: rows.pivot(index="t", columns="denoiser", values="error") for name, rows in table.groupby("pictures")}
    mine, noisy = by[task], pd.Series({t: float(LEVELS[t]) ** 2 for t in transfer.TIMESTEPS})
    assert (mine.ideal / mine["patches of 3"]).loc[:100].min() > 1.2 and 10 < mine["patches of 3"][10] / mine.patches[10] < 40
    assert (mine.patches > noisy).loc[:100].all() and (mine.patches < noisy).loc[150:].all()  # they cross a little above noise level 0.1
    assert 0.08 < LEVELS[100] < LEVELS[150] < 0.14
    assert (mine.learned < noisy).all() and (mine.ideal / mine.learned).loc[:100].min() > 40
    if task == "digits":
        assert (mine.learned / by[transfer.HELD_OUT].learned).between(0.7, 1.2).all()  # the panels agree
    sizes = table.drop_duplicates("t").set_index("t")["size"].sort_index()
    assert sizes[10] == 1 and sizes.max() >= 5 and sizes.loc[:700].is_monotonic_increasing


def test_in_the_plane_plain_tuning_spoils_the_data_end_and_diff_tuning_less():
    tuned = pd.read_csv(data_folder() / "results" / "planar.csv")
    runs = tuned.set_index(["method", "seed", "t"]).excess.unstack("t")
    middle = np.exp(np.log(runs).groupby("method").mean())  # geometric
    assert (runs.loc["Diff-Tuning"] < runs.loc["plain"]).loc[:, :300].all(axis=None)  # in all five runs
    untouched = middle.loc["pre-trained"]
    assert (untouched < middle.loc["Diff-Tuning"]).loc[:150].all() and (untouched > middle.loc["Diff-Tuning"]).loc[200:].all()
    assert (middle.loc["Diff-Tuning"] / middle.loc["plain"]).loc[[300, 400, 500]].between(0.7, 1.4).all()  # alike in the middle
    assert (middle.loc["pre-trained"] / middle.loc[["plain", "Diff-Tuning"]].max()).loc[400:700].min() > 2


# The exercises


def cell_by_cell(x_t, t, data):
    """The ideal denoiser of single cells by loops and the density itself."""
    a, answer = float(A_TINY[t]), torch.empty_like(x_t)
    for n in range(x_t.shape[0]):
        for row in range(x_t.shape[2]):
            for column in range(x_t.shape[3]):
                cells = data[:, :, row, column].double()
                density = Independent(Normal(math.sqrt(a) * cells, math.sqrt(1 - a)), 1)
                weights = (density.log_prob(x_t[n, :, row, column].double())).softmax(0)
                answer[n, :, row, column] = weights @ cells
    return answer


A_TINY = load_pretrained("tiny").diffusion.alphas_cumprod


def test_the_formula_cell_by_cell_passes_and_that_of_whole_pictures_is_told_apart():
    assert grade("single cells", cell_by_cell).passed
    found = grade("single cells", lambda x_t, t, data: ideal_denoiser(x_t, t, data, A_TINY))
    assert not found.passed and "every cell needs weights of its own" in found.message and "rows 'ideal: windows'" in found.message
    assert grade("single cells", lambda x_t, t, data: ...) == NOT_WRITTEN


def test_where_single_cells_begin_to_help_is_told_in_either_direction():
    def crossing(x_0, shirts, factor=1.0):
        for t in range(100, 501, 20):
            error = (patch_denoiser(transfer.noised(tiny, x_0, t), t, shirts, A_TINY, 1) - x_0).square().mean()
            if error < factor * (1 - A_TINY[t]) / A_TINY[t]:
                return t

    tiny = load_pretrained("tiny")
    assert grade("poorer source", crossing).passed
    for factor in (0.5, 2.0):
        found = grade("poorer source", lambda x_0, shirts, factor=factor: crossing(x_0, shirts, factor))
        assert not found.passed and "below levels[t] ** 2" in found.message and "look at the figure of errors" in found.message
    assert grade("poorer source", lambda x_0, shirts: None) == NOT_WRITTEN


def test_the_lessons_own_formula_solves_the_first_exercise():
    """With the schedule of the lesson's model instead of the one that is handed in."""

    def ideal_noise(x_t, t, data, alphas_cumprod):
        return (x_t - A_TINY[t].sqrt() * ideal_denoiser(x_t, t, data, A_TINY)) / (1 - A_TINY[t]).sqrt()

    assert grade("ideal noise", ideal_noise).passed
    found = grade("ideal noise", lambda x_t, t, data, alphas_cumprod: ideal_denoiser(x_t, t, data, alphas_cumprod))
    assert not found.passed and "that is the ideal picture" in found.message and "rows 'ideal: pictures'" in found.message


# The plane


def density(mixture: planar.Mixture, t: int) -> MixtureSameFamily:
    """The distribution of x_t, by torch.distributions."""
    a = float(A[t])
    scale = math.sqrt(a * mixture.std**2 + 1 - a)
    parts = Independent(Normal(math.sqrt(a) * mixture.means.double(), torch.tensor(scale, dtype=torch.float64)), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(mixture.means), dtype=torch.float64)), parts)


def test_a_timestep_means_the_same_noise_in_the_plane_and_on_pictures():
    torch.testing.assert_close(A, load_pretrained("tiny").diffusion.alphas_cumprod, rtol=1e-3, atol=1e-6)
    linear = Diffusion().snr
    torch.testing.assert_close(planar.DIFFUSION.snr, 16 * linear, rtol=1e-6, atol=0)


@pytest.mark.parametrize("t", [10, 300, 800])
def test_the_best_denoiser_follows_from_the_density_by_tweedies_formula(t):
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


@pytest.mark.parametrize("t", [100, 500])
def test_best_loss_and_excess_add_up_to_the_loss(t):
    """Pythagoras, for a network that sees no noise; the loss by its own simulation."""
    _, arc = planar.spiral_world()
    nothing = lambda x_t, t, labels: torch.zeros_like(x_t)  # noqa: E731
    points = 40_000
    (excess,) = planar.excess_error(nothing, arc, [t], points=points)
    x_0 = arc.sample(points, seed=1)
    x_t = planar.noised(x_0, t, seed=2)
    loss = (x_t / math.sqrt(A[t]) - x_0).square().mean()
    best = (arc.denoise(x_t, t) - x_0).square().mean()
    assert 1 + float(excess) == pytest.approx(float(loss / best), rel=0.05)


def test_the_best_denoiser_has_no_excess_and_anothers_has():
    spiral, arc = planar.spiral_world()
    assert planar.excess_error(arc, arc, [10, 800], points=500).tolist() == [0, 0]
    assert (planar.excess_error(spiral, arc, [500, 800], points=500) > 0.3).all()


@slow
def test_a_part_of_the_planar_table_comes_out_again():
    """The pre-trained network of one seed; another machine's sums may differ in the last digits, and training spreads them."""
    table = pd.read_csv(data_folder() / "results" / "planar.csv", dtype={"world": str})
    assert set(table.world) == {world_version()} and table.seed.nunique() == planar.SEEDS
    kept = table[(table.seed == 0) & (table.method == "pre-trained")]
    assert kept.t.tolist() == list(planar.TIMESTEPS)
    found = planar.excess_error(planar.pretrained_denoiser(seed=0), planar.spiral_world()[1])
    assert found.log().tolist() == pytest.approx(np.log(kept.excess).tolist(), abs=0.3)


def test_plain_tuning_leaves_the_null_label_alone_and_the_bank_trains_it():
    before = planar.PlanarDenoiser()
    for with_bank in (False, True):
        after = planar.tuned_denoiser(before, with_bank=with_bank, steps=3)
        moved = (after.label_table.weight - before.label_table.weight).abs().sum(1)
        assert moved[planar.TARGET] > 0 and bool(moved[planar.NULL] > 0) is with_bank
