"""Lesson 01: the reader's loop has the library's batches, and the exercise tells a right loss from each wrong one."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
import torch

from difftuning.config import DiffTuningConfig
from difftuning.diffusion.losses import hybrid_loss
from difftuning.lessons.exercises import NOT_WRITTEN, grade
from difftuning.lessons.forty_lines.lesson import (
    library_batches,
    loss_differences,
    loss_ratios,
    losses_of_both,
    relative_differences,
    timestep_curves,
)
from difftuning.training.fine_tune import fine_tune
from difftuning.training.label_rows import add_rows, choose_rows
from difftuning.training.streams import split_batch, training_streams
from small import small_bank, small_pretrained, small_task

NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"
NAME = "01_diff_tuning_in_forty_lines.ipynb"
T = 1000
rising = torch.arange(1, T + 1).double() / torch.arange(1, T + 1).sum()
falling = rising.flip(0)


def pick_t_and_noise(batch, distribution):
    t = torch.multinomial(distribution, len(batch.x_0), replacement=True, generator=batch.generator)
    return t, torch.randn(batch.x_0.shape, generator=batch.generator)


def of(diffusion):
    """The lesson's loss of one batch, by the library's own formula."""

    def denoising_loss(denoiser, x_0, labels, t, noise):
        x_t = diffusion.q_sample(x_0, t, noise)
        return hybrid_loss(denoiser(x_t, t, labels), x_0, x_t, noise, t, diffusion).mean()

    return denoising_loss


@pytest.mark.parametrize("flip", [False, True])
def test_batches_are_the_streams_before_anything_random(tmp_path, flip):
    pretrained, task = small_pretrained(), small_task(flip=flip)
    bank = small_bank(pretrained, tmp_path / "bank")
    config = DiffTuningConfig(steps=3, batch_size=10, seed=5)
    streams = training_streams(pretrained, task, bank, config, choose_rows(pretrained, 3), split_batch(config, bank))
    found = list(library_batches(pretrained, task, bank, config))
    assert len(found) == config.steps
    for step, pair in enumerate(found):
        for batch, stream, distribution in zip(pair, streams, (rising, falling)):
            expected = stream.draw(config.seed, step)
            t, noise = pick_t_and_noise(batch, distribution)
            assert torch.equal(batch.x_0, expected.x_0) and torch.equal(t, expected.t) and torch.equal(noise, expected.noise)
        assert set(pair[1].labels.tolist()) <= set(bank.labels.tolist())
        assert pretrained.null_label not in pair[0].labels


def test_a_plain_loop_with_the_answer_that_is_shown_is_fine_tune(tmp_path):
    """Another model and task than the lesson's: the losses at each step, and the weights at the end."""
    pretrained, task = small_pretrained(), small_task()
    bank = small_bank(pretrained, tmp_path / "bank")
    config = DiffTuningConfig(steps=6, batch_size=10, learning_rate=1e-3, seed=1)
    tuned = fine_tune(pretrained, task, bank, config, folder=tmp_path / "run", progress=False)
    denoiser = pretrained.copy_denoiser()
    add_rows(denoiser, pretrained, tuned.rows, config.seed)
    average = {name: weight.detach().clone() for name, weight in denoiser.named_parameters()}
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=config.learning_rate, weight_decay=0)
    loss_of = shown_loss(denoising_loss=of(pretrained.diffusion), null_label=pretrained.null_label)
    losses = []
    for step, (target, replayed) in enumerate(library_batches(pretrained, task, bank, config)):
        target_loss, bank_loss, total = loss_of(denoiser, target, replayed)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        decay = (1 + step) / (10 + step)
        average = {name: decay * average[name] + (1 - decay) * weight.detach() for name, weight in denoiser.named_parameters()}
        losses.append((target_loss.item(), bank_loss.item()))
    library = torch.tensor(tuned.history[["target_loss", "bank_loss"]].to_numpy())
    assert float(relative_differences(library, torch.tensor(losses)).max()) < 1e-4
    theirs = dict(tuned.model.denoiser.named_parameters())
    assert all(torch.allclose(weight, theirs[name], atol=1e-4) for name, weight in average.items())


# The exercise --------------------------------------------------------------------------------------------------------


def answer(
    *,
    target_p=rising,
    bank_p=falling,
    weight=0.1,
    null=True,
    drop=0.1,
    loss=None,
    picks=pick_t_and_noise,
    both=lambda a, b, w: (a, b, a + w * b),
):
    """The right answer, with one part replaced."""
    from difftuning.lessons.forty_lines.exercises import parts

    pretrained = parts().pretrained
    loss = loss or of(pretrained.diffusion)

    def two_term_loss(denoiser, target, bank):
        t, noise = picks(target, target_p)
        dropped = torch.rand(len(t), generator=target.generator) < drop
        labels = torch.where(dropped, pretrained.null_label, target.labels)
        target_loss = loss(denoiser, target.x_0, labels, t, noise)
        t, noise = picks(bank, bank_p)
        labels = torch.full_like(bank.labels, pretrained.null_label) if null else bank.labels
        return both(target_loss, loss(denoiser, bank.x_0, labels, t, noise), weight)

    return two_term_loss


def noise_error_alone(denoiser, x_0, labels, t, noise):
    from difftuning.lessons.forty_lines.exercises import parts

    eps = denoiser(parts().pretrained.diffusion.q_sample(x_0, t, noise), t, labels)[:, :4]
    return (noise - eps).square().mean()


def weighted_twice(denoiser, x_0, labels, t, noise):
    from difftuning.lessons.forty_lines.exercises import parts

    diffusion = parts().pretrained.diffusion
    x_t = diffusion.q_sample(x_0, t, noise)
    losses = hybrid_loss(denoiser(x_t, t, labels), x_0, x_t, noise, t, diffusion)
    weights = rising if len(t) > 10 else falling
    return (T * weights.float()[t] * losses).mean()


def not_noised(denoiser, x_0, labels, t, noise):
    from difftuning.lessons.forty_lines.exercises import parts

    return hybrid_loss(denoiser(x_0, t, labels), x_0, x_0, noise, t, parts().pretrained.diffusion).mean()


def noise_first(batch, distribution):
    noise = torch.randn(batch.x_0.shape, generator=batch.generator)
    return torch.multinomial(distribution, len(batch.x_0), replacement=True, generator=batch.generator), noise


def without_gradient(denoiser, x_0, labels, t, noise):
    """The value is right; half of the gradient is lost."""
    from difftuning.lessons.forty_lines.exercises import parts

    loss = of(parts().pretrained.diffusion)(denoiser, x_0, labels, t, noise)
    return 0.5 * loss + 0.5 * loss.detach() if len(t) < 10 else loss


flat = torch.full((T,), 1 / T, dtype=torch.float64)
WRONG = {
    "its weight, 0.1, is missing": {"weight": 1.0},
    "the bank's term is missing": {"weight": 0.0},
    "has the weight 0.2": {"weight": 0.2},
    "mean over all 32 pictures": {"both": lambda a, b, w: (a, b, (26 * a + 6 * b) / 32)},
    "no gradient": {"both": lambda a, b, w: (a.item(), b.item(), a.item() + w * b.item())},
    "return three numbers": {"both": lambda a, b, w: a + w * b},
    "belongs in the sum": {"both": lambda a, b, w: (a, w * b, a + w * b)},
    "the t of the target pictures come from the falling distribution: the two are swapped": {"target_p": falling, "bank_p": rising},
    "the t of the target pictures are picked evenly": {"target_p": flat},
    "the t of the bank pictures are picked evenly": {"bank_p": flat},
    "the t of the bank pictures come from the rising": {"bank_p": rising},
    "must be the first to use": {"picks": noise_first},
    "train under the null label": {"null": False},
    "no label of the target pictures is dropped": {"drop": 0.0},
    "only one in ten": {"drop": 1.0},
    "have other labels": {"drop": 0.5},
    "learned variance is missing": {"loss": noise_error_alone},
    "would count twice": {"loss": weighted_twice},
    "the noised pictures are not": {"loss": not_noised},
    "the gradient differs": {"loss": without_gradient},
}
TOLD_WITHOUT_A_FIGURE = {  # no figure shows labels, the bound, or how numbers are handed back
    "mean over all 32 pictures", "no gradient", "return three numbers", "belongs in the sum", "train under the null label",
    "no label of the target pictures is dropped", "only one in ten", "have other labels", "learned variance is missing",
}  # fmt: skip


def test_the_right_loss_passes():
    found = grade("two-term loss", answer())
    assert found.passed and "4 steps" in found.message, found


def test_one_forward_for_both_sets_passes_too():
    from difftuning.lessons.forty_lines.exercises import parts

    diffusion, null = parts().pretrained.diffusion, parts().pretrained.null_label

    def at_once(denoiser, target, bank):
        (t, noise), (t_bank, noise_bank) = pick_t_and_noise(target, rising), pick_t_and_noise(bank, falling)
        dropped = torch.rand(len(t), generator=target.generator) < 0.1
        labels = torch.cat([torch.where(dropped, null, target.labels), torch.full_like(bank.labels, null)])
        x_0, t, noise = (torch.cat(pair) for pair in ((target.x_0, bank.x_0), (t, t_bank), (noise, noise_bank)))
        x_t = diffusion.q_sample(x_0, t, noise)
        losses = hybrid_loss(denoiser(x_t, t, labels), x_0, x_t, noise, t, diffusion)
        target_loss, bank_loss = losses[: len(target.labels)].mean(), losses[len(target.labels) :].mean()
        return target_loss, bank_loss, target_loss + 0.1 * bank_loss

    assert grade("two-term loss", at_once).passed


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_loss_is_told_what_is_off(words):
    found = grade("two-term loss", answer(**WRONG[words]))
    assert not found.passed and words in found.message, found
    assert words in TOLD_WITHOUT_A_FIGURE or "look at the" in found.message, found


@pytest.mark.parametrize("stub", [lambda *_: None, lambda *_: ..., lambda *_: (None, None, None)])
def test_a_stub_is_not_written_yet(stub):
    assert grade("two-term loss", stub) == NOT_WRITTEN


def squared(flip=False):
    squares = torch.arange(1, T + 1).double() ** 2
    return (squares.flip(0) if flip else squares) / squares.sum()


def test_steeper_weights_pass_and_each_slip_is_named():
    assert grade("steeper weights", lambda: (squared(), squared(flip=True))).passed
    for answer, words in (
        ((rising, falling), "for the target pictures: "),
        ((squared(), falling), "that is power 1"),
        ((squared(flip=True), squared()), "mirror image"),
        (squared(), "return two tensors"),
    ):
        found = grade("steeper weights", lambda answer=answer: answer)
        assert not found.passed and words in found.message, found
        assert "return two" in words or "look at the figure of the section 'Second change'" in found.message, found
    assert grade("steeper weights", lambda: ...) == NOT_WRITTEN


# The figures and the notebook ----------------------------------------------------------------------------------------


def test_relative_differences_take_the_larger_term_and_the_shorter_run():
    library = torch.tensor([[1.0, 2.0], [1.0, 4.0], [1.0, 1.0]])
    assert relative_differences(library, torch.tensor([[1.1, 2.0], [1.0, 5.0]])).tolist() == pytest.approx([0.1, 0.25])


def test_figures_say_what_they_show():
    library = torch.rand(20, 2, generator=torch.Generator().manual_seed(0)) + 1
    assert "relative difference is 0.1." in losses_of_both(library, 1.1 * library).get_label()
    figure = loss_differences(library, {"yours": library, "swapped": 3 * library})
    assert "yours 0; swapped 2" in figure.get_label()
    hollow = [line for line in figure.axes[0].lines if line.get_fillstyle() == "none"]
    assert [len(line.get_xdata()) for line in hollow] == [20, 0]  # exact agreement at every step, and at none
    ratios = {"T-shirts": {"plain": torch.tensor([1.1, 2.0]), "Diff-Tuning": torch.tensor([1.0, 1.2])}}
    assert "T-shirts, plain: 1.10 at t = 10, 1.10 to 2.00" in loss_ratios(ratios, [10, 900]).get_label()
    heights = [line.get_ydata() for line in timestep_curves(rising, falling).axes[0].lines[:2]]
    assert float(heights[0][-1]) == pytest.approx(2, abs=1e-2) and float(heights[0][0]) == pytest.approx(0, abs=1e-2)


def cells(folder: Path = NOTEBOOKS) -> dict[str, str]:
    return {cell.id: cell.source for cell in nbformat.read(folder / NAME, as_version=4).cells}


def shown_loss(**parts):
    """The loss that lesson 01 shows, made of the lesson's own distributions and these parts."""
    space = {"torch": torch, **parts}
    for name in ("method-draw", "method-distributions", "method-answer"):
        exec(cells()[name], space)
    return space["worked"]


def test_the_method_has_forty_lines():
    method = [source for name, source in cells().items() if name.startswith("method-")]
    lines = [line for source in method for line in source.splitlines() if line.split("#")[0].strip()]
    assert 35 <= len(lines) <= 40, len(lines)


def test_the_answer_that_is_shown_is_the_solution():
    shown, solution = ast.parse(cells()["method-answer"]).body[0], ast.parse(cells(NOTEBOOKS / "solutions")["solution"]).body[0]
    assert [ast.unparse(line) for line in shown.body] == [ast.unparse(line) for line in solution.body]
