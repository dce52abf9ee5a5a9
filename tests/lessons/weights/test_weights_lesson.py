"""Lesson 04's arithmetic against brute force, the training code's own settings, and closed forms worked out another way."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from difftuning.config import DiffTuningConfig
from difftuning.diffusion.losses import hybrid_loss
from difftuning.diffusion.process import Diffusion
from difftuning.diffusion.timestep_weights import min_snr_weight, p2_weight, retention_weight, timestep_distribution
from difftuning.lessons.parts import Parts
from difftuning.lessons.weights import answers, dashboard, figures, gradient_noise, schedules
from difftuning.lessons.weights.balance import balance, eps_multiplier, per_tenth, threshold_of
from difftuning.support.random import seeded_generator
from difftuning.training.streams import split_batch, timestep_sampling

DIFFUSION = Diffusion()
T = DIFFUSION.num_timesteps
RISING, FALLING = (timestep_distribution(T, 1.0, descending=side) for side in (False, True))


# The balance of the two terms


@pytest.mark.parametrize("bank_weight, crossing", [(0.1, 90), (0.43, 300), (0.5, 333), (1.0, 500), (1e-9, 0)])
def test_the_crossing_solves_the_official_weights_by_hand(bank_weight, crossing):
    """t + 1 = lambda (T - t): t = (lambda T - 1) / (1 + lambda), rounded up; a tie counts for reconsolidation."""
    assert balance(DIFFUSION, bank_weight=bank_weight).crossing == crossing


def test_the_papers_weights_cross_where_each_is_a_half():
    """(t/T)^tau = 1/2, the first whole t from there on; a threshold that stands for them is put there."""
    for tau in (0.5, 1.0, 2.0):
        crossing = balance(DIFFUSION, family="paper", parameter=tau, use="weight the loss", bank_weight=1.0).crossing
        assert crossing == math.ceil(T * 0.5 ** (1 / tau))
        assert balance(DIFFUSION, parameter=tau, bank_weight=1.0).crossing == 500, "official: the mirror image"
        assert balance(DIFFUSION, family="threshold", parameter=threshold_of(tau), bank_weight=0.3).crossing == crossing
        assert float(retention_weight(torch.tensor(T * threshold_of(tau)), T, tau)) == pytest.approx(0.5)


@pytest.mark.parametrize("family, parameter", [("official", 2.0), ("paper", 0.5), ("threshold", 0.3), ("sigmoid", 0.6)])
def test_retention_outweighs_below_the_crossing_and_not_at_it(family, parameter):
    found = balance(DIFFUSION, family=family, parameter=parameter, bank_weight=0.7)
    ahead = found.bank.weight > found.target.weight
    assert 0 < found.crossing < T
    assert bool(ahead[: found.crossing].all()) and not bool(ahead[found.crossing :].any())


def test_where_retention_has_no_weight_there_is_no_distribution_and_no_crossing():
    found = balance(DIFFUSION, family="paper", parameter=0.0)
    assert found.bank.distribution is None and found.crossing == 0 == float(found.bank.pictures.sum())


@pytest.mark.parametrize("family, parameter", [("official", 1.5), ("paper", 2.0), ("threshold", 0.4), ("sigmoid", 0.4)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_balance_is_what_the_training_loop_does(family, parameter, weighted):
    """Distributions, weights and counts are those of `fine_tune`; its expected loss at t is distribution x importance x stream weight."""
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
    assert per_tenth(torch.arange(20)).tolist() == [1, 5, 9, 13, 17, 21, 25, 29, 33, 37]


def test_the_share_moves_the_pictures_and_not_the_weights():
    few, many = (balance(DIFFUSION, bank_share=share) for share in (0.1, 0.5))
    assert torch.equal(few.bank.weight, many.bank.weight) and torch.equal(few.target.weight, many.target.weight)
    assert float(few.bank.pictures.sum()) == pytest.approx(3) and float(many.bank.pictures.sum()) == pytest.approx(16)


def test_p2_and_min_snr_multiply_both_terms_and_leave_the_crossing():
    plain = balance(DIFFUSION)
    for scheme, expected in (("p2", p2_weight(DIFFUSION.snr, gamma=0.5)), ("min_snr", min_snr_weight(DIFFUSION.snr))):
        found = balance(DIFFUSION, loss_weighting=scheme)
        torch.testing.assert_close(found.target.weight / plain.target.weight, expected)
        torch.testing.assert_close(found.bank.weight / plain.bank.weight, expected)
        assert torch.equal(eps_multiplier(DIFFUSION, scheme), expected) and found.crossing == plain.crossing


# What a timestep means


@pytest.mark.parametrize("factor", [0.25, 1, 16])
def test_a_scaled_schedule_has_that_many_times_the_signal_to_noise_ratio(factor):
    torch.testing.assert_close(schedules.scaled_schedule(factor).snr, factor * DIFFUSION.snr)


def test_equal_noise_is_found_by_its_signal_to_noise_ratio():
    """A walk along the other schedule, and a timestep that is where it was."""
    own = schedules.scaled_schedule(16)
    for t in (0, 100, 400, 850):
        walk = min(range(T), key=lambda other: abs(math.log(float(own.snr[other] / DIFFUSION.snr[t]))))
        assert int(schedules.same_noise(DIFFUSION.snr[t], own)) == walk
    assert schedules.same_noise(own.snr[[3, 500]], own).tolist() == [3, 500]


def test_a_guess_that_is_the_picture_knows_all_and_one_of_the_mean_nothing(small_model):
    """Denoisers with the answer built in: the true noise, and the noise that would be there if the picture were the mean."""
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = small_model.encode(images)

    class Told(torch.nn.Module):
        def __init__(self, truth):
            super().__init__()
            self.truth = torch.nn.Parameter(truth, requires_grad=False)

        def forward(self, x_t, t, labels):
            eps = small_model.diffusion.predict_eps(x_t, t, self.truth.expand_as(x_t))
            return torch.cat([eps, torch.zeros_like(eps)], 1)

    for truth, share in ((latents, 1.0), (latents.mean(0, keepdim=True), 0.0)):
        told = small_model.with_denoiser(small_model.copy_denoiser())
        told.denoiser = Told(truth)
        assert schedules.known_share(told, images, count=4).share == pytest.approx([share] * 4, abs=1e-3)


def test_the_known_share_moves_with_the_schedule_and_picks_are_counted_by_it():
    known = schedules.Known(DIFFUSION.snr.numpy(), np.linspace(1, 0, T))
    assert known.at(DIFFUSION) == pytest.approx(np.linspace(1, 0, T))
    assert (known.at(schedules.scaled_schedule(16)) >= known.at(DIFFUSION)).all()
    flat = timestep_distribution(T, 0)
    assert schedules.picks_by_known_share(flat, known.at(DIFFUSION)) == pytest.approx([0.1, 0.4, 0.4, 0.1], abs=0.002)


def test_a_dot_stands_in_the_middle_of_its_share_of_many_picks():
    drawn = torch.multinomial(RISING, 200_000, replacement=True, generator=torch.Generator().manual_seed(1)).double().numpy()
    below = [(drawn < place).mean() for place in figures.spread(RISING, 26)]
    assert below == pytest.approx((np.arange(26) + 0.5) / 26, abs=0.005)
    assert figures.spread(RISING, 2).tolist() == [499, 865]  # t + 1 is sqrt(1/4) and sqrt(3/4) of the chain


# The words


def made_parts(distances, rises, last=()):
    """One set: Frechet distances under both guidances, and the rise in the loss on old pictures at every tenth, or another in the `last`, by method."""
    scores = [
        {"task": "digits", "method": method, "seed": 0, "guidance": guidance, "fid": distance}
        for method, pair in distances.items() for guidance, distance in zip(("1", "1.5"), pair)
    ]  # fmt: skip
    losses = [
        {"task": "digits", "data": "source", "method": method, "seed": 0, "tenth": tenth, "before": 0.5,
         "after": 0.5 * (1 + (dict(last).get(method, rise) if tenth == 10 else rise))}
        for method, rise in rises.items() for tenth in range(1, 11)
    ]  # fmt: skip
    return Parts(pd.DataFrame(scores, columns=["task", "method", "seed", "guidance", "fid"]), pd.DataFrame(losses))


RISES = {"plain": 0.6, "Diff-Tuning": 0.3, "reconsolidation only": 0.6, "retention only": 0.3, "weightings swapped": 0.9}


@pytest.mark.parametrize(
    "swapped, words",
    [
        ((1.0, 1.2), "better"),
        ((2.3, 1.7), "about the same"),  # on average over both guidances
        ((3.0, 2.5), "worse"),
    ],
)
def test_what_swapped_curves_do_is_read_from_both_guidances(swapped, words):
    found = answers.swapped_in_words(made_parts({"plain": (2, 2), "Diff-Tuning": (1.5, 1.5), "weightings swapped": swapped}, RISES))
    assert found == words


@pytest.mark.parametrize("heavy, words", [((3, 2), "worse"), ((1.5, 1.52), "about the same"), ((1, 1), "better")])
def test_what_a_heavier_bank_does_is_read_from_both_guidances(heavy, words):
    assert answers.heavier_in_words(made_parts({"Diff-Tuning": (1.5, 1.5), "Diff-Tuning, weight 1": heavy}, RISES)) == words


def test_the_answer_says_of_each_curve_what_the_tables_say():
    distances = {
        "plain": (2, 2),
        "Diff-Tuning": (1.5, 1.5),
        "reconsolidation only": (1.5, 2),
        "retention only": (3, 1.35),
        "weightings swapped": (3, 3),
    }
    bold, _, _, _, *lines, _, meant = answers.answer_in_words(made_parts(distances, RISES)).splitlines()
    assert bold == (
        "**With the rising curve in place of the flat one the new samples are better; a bank keeps more of the old with some curves and not with others; with the two "
        "curves swapped the new samples are worse.**"
    )  # not the worst: another one has 3, too
    assert [line.split(" | ")[2:] for line in lines] == [
        ["better (distance −13 % on average)", "0 % |"],  # of 25 % and none
        ["better in some comparisons and worse in others", "50 % |"],
        ["better (distance −25 % on average)", "50 % |"],
        ["worse (distance +50 % on average)", "−50 % |"],
    ]
    with_a_bank_alone = distances | {"reconsolidation only": (2, 2.02)}
    assert (
        "the new samples are better where there is a bank, and not clearly different where there is none; a bank"
        in answers.answer_in_words(made_parts(with_a_bank_alone, RISES))
    )
    assert "10 % of the rise at least" in meant


def test_the_worst_is_worst_under_both_guidances_and_a_bank_keeps_whichever_its_curve():
    distances = {
        "plain": (2, 2),
        "Diff-Tuning": (1, 1),
        "reconsolidation only": (1, 1),
        "retention only": (3, 3),
        "weightings swapped": (4, 4),
    }
    rises = RISES | {"weightings swapped": 0.48}
    parts = made_parts(distances, rises)
    for words in (answers.answer_in_words(parts), answers.recap_in_words(parts, parts)):
        assert (
            "the flat one the new samples are better; a bank, whichever its curve, keeps more of the old; with the two curves swapped the new samples are the worst."
            in words
        )
    words = answers.answer_in_words(made_parts(distances | {"weightings swapped": (4, 2.9)}, rises))
    assert "swapped the new samples are worse.**" in words
    none = answers.answer_in_words(made_parts(distances, dict.fromkeys(RISES, 0.6)))
    assert "; with a bank no more of the old is kept;" in none


def test_the_recap_speaks_of_tau_where_it_was_run():
    distances = dict.fromkeys(RISES, (2, 2)) | {"tau 2, official": (1, 1)}
    parts = made_parts(distances, RISES | {"tau 2, official": 0.1})
    assert len(answers.recap_in_words(parts, made_parts(dict.fromkeys(RISES, (2, 2)), RISES)).splitlines()) == 1
    last = answers.recap_in_words(parts, parts).splitlines()[-1]
    assert last == "- The new samples get better with tau 2 (official); the old pictures are kept better with 2 (official)."
    assert answers.tau_in_words(parts).startswith(
        "**The new samples get better"
    ) and "| tau 2 (official) | better | better |" in answers.tau_in_words(parts)


def test_a_falling_bank_is_set_against_a_rising_one_in_a_table():
    parts = made_parts({}, RISES | {"weightings swapped": 0.3}, {"weightings swapped": 0.9})
    head, _, falling, rising = answers.falling_or_rising(parts).splitlines()
    assert head.endswith("| digits |") and falling.endswith("| in tenth 10 |") and rising.endswith("| in no tenth |")


@pytest.mark.parametrize(
    "swapped, words", [(0.9, "does not lose less there"), (0.1, "loses less there"), (0.3, "does not lose less there")]
)
def test_whether_many_bank_pictures_at_the_noise_end_help_is_read_from_the_swapped_method(swapped, words):
    assert f"and {words}. The two differ" in answers.noise_end_kept(made_parts({}, RISES, {"weightings swapped": swapped}))


def test_a_loss_above_the_one_before_is_spoken_of_where_every_method_has_it():
    risen = {method: [1.2] * 3 + [0.8] * 7 for method in RISES} | {"Diff-Tuning": [1.1] * 3 + [0.8] * 7, "retention only": [1.1] * 10}
    parts = made_parts({}, RISES)
    words = answers.behind_the_losses(with_new_losses(parts, risen))
    assert (
        words.startswith("On the left the lines of digits begin above 1:") and "*handwritten digit*" in words and "a bank lowers" in words
    )
    alike = answers.behind_the_losses(with_new_losses(parts, risen | {"Diff-Tuning": [1.2] * 10}))
    assert "begin above 1" in alike and "a bank lowers" not in alike
    assert "begin above 1" not in answers.behind_the_losses(with_new_losses(parts, risen | {"plain": [1.2, 0.9] + [0.8] * 8}))


def with_new_losses(parts, ratios):
    """Losses on new pictures besides: after / before at every tenth, by method."""
    rows = [
        {"task": "digits", "data": "target", "method": method, "seed": 0, "tenth": tenth, "before": 0.5, "after": 0.5 * value}
        for method, values in ratios.items() for tenth, value in enumerate(values, 1)
    ]  # fmt: skip
    return Parts(parts.scores, pd.concat([parts.losses, pd.DataFrame(rows)]))


def test_the_caption_of_the_losses_names_who_stands_out_and_where_a_bank_protects():
    flat = {method: [1.0] * 9 + [last] for method, last in zip(RISES, (0.7, 0.6, 0.6, 0.7, 0.9))}
    parts = made_parts({}, RISES | {"weightings swapped": 0.4}, {"weightings swapped": 0.9})
    words = answers.losses_in_words(with_new_losses(parts, flat))
    assert words == (
        "*Left, new pictures: in the last tenth the swapped method has learned least and the two with a rising curve have learned most. Right, "
        "old pictures: the three methods with a bank lie below the two without from the first to the ninth tenth.*"
    )
    words = answers.losses_in_words(with_new_losses(made_parts({}, RISES), flat | {"plain": [1.0] * 9 + [0.5]}))
    assert "the lines with a bank and without cross.*" in words and "have learned most" not in words
    none = answers.losses_in_words(with_new_losses(made_parts({}, RISES), flat | {"plain": [1.0] * 10, "Diff-Tuning": [1.0] * 9 + [0.8]}))
    assert "no method stands out" in none


def test_a_heavier_bank_is_answered_and_followed_along_the_chain():
    light, heavy = [1.0] * 10, [0.9] * 6 + [1.0] * 2 + [1.1] * 2
    parts = made_parts({"Diff-Tuning": (1, 1), "Diff-Tuning, weight 1": (2, 2)}, {"Diff-Tuning": 0.4, "Diff-Tuning, weight 1": 0.2})
    words = answers.heavier_along_the_chain(with_new_losses(parts, {"Diff-Tuning": light, "Diff-Tuning, weight 1": heavy}))
    assert words == (
        "**With ten times the bank weight the new samples are worse on average, and more of the old is kept.** *Light blue: weight 1. Its loss on new "
        "pictures is lower from the first to the sixth tenth and higher in the last two tenths.*"
    )
    words = answers.heavier_along_the_chain(with_new_losses(parts, {"Diff-Tuning": light, "Diff-Tuning, weight 1": light}))
    assert words.endswith("Its loss on new pictures hardly changes.*")


# The noise of gradients


def test_weighting_and_sampling_have_the_second_moments_of_many_draws():
    """One number for a gradient, its length a function of t: E|G|^2 by simulation."""
    length = 1 / (1 + torch.arange(T) / 100)
    generator = torch.Generator().manual_seed(3)
    drawn, uniform = torch.multinomial(RISING, 400_000, True, generator=generator), torch.randint(T, (400_000,), generator=generator)
    sampling, weighting = gradient_noise.second_moments(RISING, length.double().square())
    assert float(length[drawn].square().mean()) == pytest.approx(float(sampling), rel=0.02)
    assert float((T * RISING[uniform] * length[uniform]).square().mean()) == pytest.approx(float(weighting), rel=0.02)


def test_for_equally_long_gradients_weighting_costs_four_thirds():
    """T sum p^2 = 2 (2T + 1) / (3 (T + 1)) for p_i = (i + 1) / sum."""
    assert gradient_noise.moment_ratio(RISING, torch.ones(T)) == pytest.approx(2 * (2 * T + 1) / (3 * (T + 1)), rel=1e-12)


def test_squared_lengths_are_those_of_backward(small_model):
    model = small_model.with_denoiser(small_model.copy_denoiser())
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
    assert float(found[1, 1]) == pytest.approx(expected, rel=1e-4)


# The figures


def test_a_dashboard_draws_its_balance_and_every_setting_is_within_its_axes():
    board = dashboard.Dashboard(DIFFUSION)
    for setting in ({"tau": 3.0, "bank_share": 0.05}, {"family": "threshold", "tau": 2.0}, {"family": "paper", "tau": 0.25}):
        found = board.update(**setting)
        for name, side in (("target", found.target), ("bank", found.bank)):
            assert [bar.get_height() for bar in board.bars[name]] == pytest.approx(side.pictures.tolist())
            assert float(side.pictures.max()) < dashboard.MOST_PICTURES and float(side.weight.max()) < dashboard.WEIGHTS[1]
        assert board.crossing.get_xdata() == [found.crossing] * 2


def shown_dashboard():
    board = dashboard.Dashboard(DIFFUSION)
    board.update()
    return board.figure


@pytest.mark.parametrize(
    "figure, words",
    [
        (shown_dashboard(), "the bank counts more: t < 90"),
        (figures.weightings_figure({"plain": {"target": RISING, "bank": None}}), "plain"),
        (figures.picks_figure({"target": {"linear": [0.4, 0.3, 0.2, 0.1]}, "bank": {"linear": [0.1] * 4}}), "linear: 40 % where less"),
        (
            figures.chain_figure({"noised": torch.zeros(10, 3, 8, 8)}, np.linspace(1, 0, T), RISING, 26, "ours"),
            "Of 26 new pictures of a step 19",
        ),
        (figures.length_curves(torch.arange(10) * 100, {"target": torch.rand(10, 3) + 1, "bank": torch.rand(10, 3) + 1}), "longer"),
    ],
    ids=["dashboard", "weightings", "picks", "chain", "lengths"],
)
def test_figures_say_in_words_what_they_show(figure, words):
    assert words in figure.get_label() and figure.get_label().encode("latin-1", "replace") in figure._repr_png_()
