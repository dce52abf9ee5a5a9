"""Early stopping ends at the best weights, also when it is interrupted on the way."""

from __future__ import annotations

import pytest
import torch

from difftuning.config import DiffTuningConfig
from difftuning.diffusion.losses import hybrid_loss
from difftuning.training.early_stopping import EarlyStopping, validation_losses
from difftuning.training.fine_tune import fine_tune
from difftuning.training.fine_tuned import load_fine_tuned
from small import small_task
from tests.training.helpers import PLAIN, weights

CONFIG = DiffTuningConfig(steps=60, checkpoint_every=4, learning_rate=2e-2, batch_size=8, **PLAIN)


class Turning(EarlyStopping):
    """With a loss that turns round on the way, as a tiny model's does not: how far the weights are from a given distance."""

    def loss(self, model):
        return abs((weights(model)[self.compared] - self.start).norm().item() - 3.7)


def tune(pretrained, folder, *, callbacks=()):
    stopping = Turning(pretrained, small_task(size=24, seed=9), CONFIG, every=3, patience=4, draws=70)
    start = weights(pretrained.denoiser)
    stopping.compared = slice(None, 2000)  # before the label table, whose new rows start elsewhere
    stopping.start = start[stopping.compared]
    states = []
    callbacks = [stopping, lambda state: states.append((state, weights(state.ema_model()))), *callbacks]
    return fine_tune(pretrained, small_task(size=8), None, CONFIG, folder=folder, callbacks=callbacks, progress=False), states, stopping


@pytest.fixture(scope="module")
def stopped(pretrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "run"
    return folder, *tune(pretrained, folder)


def test_the_run_ends_after_patience_and_results_in_the_best_average(stopped, pretrained):
    folder, tuned, states, stopping = stopped
    losses = validation_losses(states[-1][0])
    best = min(losses, key=losses.get)
    assert list(losses) == list(range(3, len(tuned.history) + 1, 3)) and len(tuned.history) == best + 4 * 3 < CONFIG.steps
    assert torch.equal(weights(tuned.model.denoiser), states[best - 1][1])
    assert stopping.loss(tuned.model.denoiser) == pytest.approx(losses[best], rel=1e-6)
    assert torch.equal(weights(load_fine_tuned(folder).model.denoiser), weights(tuned.model.denoiser))


def test_the_validation_loss_is_the_mean_over_fixed_draws(pretrained):
    stopping = EarlyStopping(pretrained, small_task(size=24, seed=9), CONFIG, every=3, draws=70)
    (stream,) = stopping.objective.streams
    total = 0.0
    for i in range(2):  # 70 draws as two batches of 35
        draw = stream.draw(0, i)
        x_t = pretrained.diffusion.q_sample(draw.x_0, draw.t, draw.noise)
        with torch.no_grad():
            output = pretrained.denoiser(x_t, draw.t, draw.labels)
            total += hybrid_loss(output, draw.x_0, x_t, draw.noise, draw.t, pretrained.diffusion).mean().item() / 2
        assert int(draw.labels.max()) < pretrained.null_label, "no label is dropped"
    assert stopping.loss(pretrained.denoiser) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("at", [2, 10, 19])
def test_an_interrupted_run_ends_at_the_same_step_with_the_same_weights(stopped, pretrained, tmp_path, at):
    _, straight, states, _ = stopped

    def cut(state):
        if state.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(pretrained, tmp_path, callbacks=[cut])
    tuned, others, _ = tune(pretrained, tmp_path)
    assert len(tuned.history) == len(straight.history)
    assert torch.equal(weights(tuned.model.denoiser), weights(straight.model.denoiser))
    assert validation_losses(others[-1][0]) == validation_losses(states[-1][0])


def test_a_run_that_was_stopped_stays_so(stopped, pretrained):
    folder, straight, *_ = stopped
    tuned, states, _ = tune(pretrained, folder)
    assert not states and torch.equal(weights(tuned.model.denoiser), weights(straight.model.denoiser))


def test_numbers_below_1_are_named(pretrained):
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        EarlyStopping(pretrained, small_task(), CONFIG, every=3, patience=0)


def test_a_callback_that_is_in_no_list_is_refused_before_a_step(pretrained, tmp_path):
    alone = EarlyStopping(pretrained, small_task(size=24, seed=9), CONFIG, every=3, draws=7)
    with pytest.raises(TypeError, match=r"callbacks must be a list, not EarlyStopping: pass \[EarlyStopping"):
        fine_tune(pretrained, small_task(size=8), None, CONFIG, folder=tmp_path / "run", callbacks=alone, progress=False)


@pytest.mark.parametrize("callbacks, said", [([EarlyStopping], r"the class EarlyStopping: pass EarlyStopping\("), (["early_stopping"], "'early_stopping': pass a function")])  # fmt: skip
def test_what_is_no_callback_is_refused_before_a_step(pretrained, tmp_path, callbacks, said):
    with pytest.raises(TypeError, match=said):
        fine_tune(pretrained, small_task(size=8), None, CONFIG, folder=tmp_path / "run", callbacks=callbacks, progress=False)


def test_the_training_pictures_are_no_validation_pictures(pretrained, tmp_path):
    task = small_task(size=8)
    stopping = EarlyStopping(pretrained, task, CONFIG, every=3, draws=7)
    with pytest.raises(ValueError, match="the validation pictures are the training pictures"):
        fine_tune(pretrained, task, None, CONFIG, folder=tmp_path / "run", callbacks=[stopping], progress=False)


def test_a_runs_folder_belongs_to_its_early_stopping(stopped, pretrained):
    """Without it, with other patience, on other pictures: the result would be another."""
    folder, *_ = stopped
    others = [
        [],
        [EarlyStopping(pretrained, small_task(size=24, seed=9), CONFIG, every=3, patience=5, draws=70)],
        [EarlyStopping(pretrained, small_task(size=24, seed=8), CONFIG, every=3, patience=4, draws=70)],
    ]
    for callbacks in others:
        with pytest.raises(ValueError, match="another configuration .early_stopping was .*'patience': 4.* choose another folder"):
            fine_tune(pretrained, small_task(size=8), None, CONFIG, folder=folder, callbacks=callbacks, progress=False)


def test_what_cannot_be_checked_is_refused_before_a_step(pretrained, tmp_path):
    with pytest.raises(ValueError, match="a check every 100 steps never comes in 60"):
        EarlyStopping(pretrained, small_task(), CONFIG)
    fewer = EarlyStopping(pretrained, small_task(classes=2, size=24, seed=9), CONFIG, every=3, draws=7)
    with pytest.raises(ValueError, match="must have the classes of shapes: only one has"):
        fine_tune(pretrained, small_task(size=8), None, CONFIG, folder=tmp_path / "run", callbacks=[fewer], progress=False)
    assert not (tmp_path / "run").exists()
