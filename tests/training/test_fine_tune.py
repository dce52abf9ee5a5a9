"""`fine_tune` is the method as published, and plain fine-tuning is the same code switched off."""

from __future__ import annotations

import shutil
import warnings
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import mse_loss

from difftuning.config import DiffTuningConfig
from difftuning.diffusion.losses import hybrid_loss
from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.sampling import sample
from difftuning.support.files import DamagedFileError
from difftuning.training.fine_tune import fine_tune
from difftuning.training.fine_tuned import load_fine_tuned
from difftuning.training.label_rows import add_rows, choose_rows
from small import small_bank, small_pretrained, small_task
from tests.training.helpers import PLAIN, streams_of, tune, weights


def independent_loop(pretrained, draws, steps, learning_rate, bank_weight, start):
    """Plain torch, sharing the random draws alone: own noising, own loss, own AdamW, own average."""
    model = start
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    a = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), a[:-1]])
    posterior = betas * (1 - before) / (1 - a)
    posterior[0] = posterior[1]
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    average = [weight.detach().clone() for weight in model.parameters()]
    history = []
    for step in range(steps):
        drawn = draws(step)
        parts = []
        for x_0, t, noise, labels in drawn:
            x_t = (a[t].sqrt().float())[:, None, None, None] * x_0 + ((1 - a[t]).sqrt().float())[:, None, None, None] * noise
            parts.append((x_0, x_t, t, noise, labels))
        output = model(*(torch.cat([part[i] for part in parts]) for i in (1, 2, 4)))
        losses = []
        for (_, _, t, noise, _), out in zip(parts, output.split([len(part[2]) for part in parts])):
            assert bool((t > 0).all())  # true of this seed; t = 0 has another bound
            eps, v = out.chunk(2, dim=1)
            at = lambda table: table[t].float()[:, None, None, None]  # noqa: E731
            log_variance = (v + 1) / 2 * at(betas.log()) + (1 - (v + 1) / 2) * at(posterior.log())
            error = at(betas / ((1 - a).sqrt() * (1 - betas).sqrt())) * (noise - eps.detach())  # difference of the two means
            kl = torch.distributions.kl_divergence(
                torch.distributions.Normal(error, at(posterior.sqrt())),
                torch.distributions.Normal(torch.zeros(()), (log_variance / 2).exp()),
            )
            losses.append(mse_loss(eps, noise) + kl.mean() / torch.log(torch.tensor(2.0)))
        total = losses[0] if len(losses) == 1 else losses[0] + bank_weight * losses[1]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        decay = min(0.9999, (1 + step) / (10 + step))
        average = [decay * old + (1 - decay) * new.detach() for old, new in zip(average, model.parameters())]
        history.append([loss.item() for loss in losses])
    return model, torch.cat([weight.flatten() for weight in average]), torch.tensor(history)


@pytest.mark.parametrize("method", ["plain", "Diff-Tuning"])
def test_the_loop_equals_an_independent_one_on_the_same_draws(pretrained, task, bank, tmp_path, method):
    used, options = (None, PLAIN) if method == "plain" else (bank, {})
    trained = []
    result = tune(pretrained, task, used, tmp_path, seed=2, callbacks=[lambda state: trained.append(state.module)], **options)

    config = DiffTuningConfig(steps=12, seed=2, **options)
    streams = streams_of(pretrained, task, used, seed=2, **options)
    start = pretrained.copy_denoiser().train()
    add_rows(start, pretrained, choose_rows(pretrained, 3), seed=2)

    def draws(step):
        drawn = [stream.draw(2, step) for stream in streams]
        if method == "Diff-Tuning":
            assert [len(part.t) for part in drawn] == [26, 6] and bool((drawn[1].labels == 12).all())
        return [(part.x_0, part.t, part.noise, part.labels) for part in drawn]

    model, average, losses = independent_loop(pretrained, draws, config.steps, 1e-3, 0.1, start)
    names = ["target_loss"] if method == "plain" else ["target_loss", "bank_loss"]
    assert torch.allclose(torch.tensor(result.history[names].values).float(), losses, rtol=1e-4)
    start_weights = weights(pretrained.denoiser)
    moved = (weights(result.model.denoiser) - start_weights).norm()
    assert (weights(result.model.denoiser) - average).norm() < 1e-2 * moved
    last = torch.cat([weight.detach().flatten() for weight in trained[-1].parameters()])
    own = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    assert (last - own).norm() < 1e-2 * (own - start_weights).norm()


@pytest.mark.parametrize("batch, share", [(4, 0.2), (32, 0.0)])
def test_a_batch_too_small_for_the_share_is_an_error(pretrained, task, bank, tmp_path, batch, share):
    with pytest.raises(ValueError, match=f"a batch of {batch} at bank_share {share} holds no bank picture"):
        tune(pretrained, task, bank, tmp_path / "run", batch_size=batch, bank_share=share)
    assert not (tmp_path / "run").exists()


def test_without_bank_and_at_power_zero_it_is_plain_fine_tuning(pretrained, task, tmp_path):
    (target,) = streams_of(pretrained, task, None, **PLAIN)
    assert torch.allclose(target.timestep_distribution, torch.full((1000,), 1e-3, dtype=torch.float64))
    assert (target.batch, target.weight, target.timestep_weight, target.eps_weight) == (32, 1.0, None, None)
    tuned = tune(pretrained, task, None, tmp_path, steps=1, **PLAIN)
    for history in (tuned.history, load_fine_tuned(tmp_path).history):  # the columns of every run; a bank's loss there is not
        assert list(history) == ["step", "target_loss", "bank_loss", "seconds"] and history.bank_loss.isna().all()


def test_p2_changes_the_loss_that_is_trained(pretrained, task, bank, tmp_path, tuned):
    weighted = tune(pretrained, task, bank, tmp_path, loss_weighting="p2", steps=1)
    assert not torch.equal(weights(weighted.model.denoiser), weights(tuned.model.denoiser))
    streams = streams_of(pretrained, task, bank, loss_weighting="p2")
    drawn = streams[0].draw(0, 0)
    denoiser = pretrained.copy_denoiser()
    add_rows(denoiser, pretrained, choose_rows(pretrained, 3), 0)
    with torch.no_grad():
        x_t = pretrained.diffusion.q_sample(drawn.x_0, drawn.t, drawn.noise)
        output = denoiser(x_t, drawn.t, drawn.labels)
        eps = (output[:, :4] - drawn.noise).square().flatten(1).mean(1)
        bound = hybrid_loss(output, drawn.x_0, x_t, drawn.noise, drawn.t, pretrained.diffusion) - eps
    weight = ((1 + pretrained.diffusion.snr) ** -0.5)[drawn.t].float()
    assert weighted.history["target_loss"][0] == pytest.approx(float((weight * eps + bound).mean()), rel=1e-4)


def test_the_pretrained_model_is_left_as_it_was(pretrained, task, bank, tmp_path):
    before, state = weights(pretrained.denoiser).clone(), torch.get_rng_state()
    result = tune(pretrained, task, bank, tmp_path)
    assert torch.equal(weights(pretrained.denoiser), before) and torch.equal(torch.get_rng_state(), state)
    assert not pretrained.denoiser.training and not result.model.denoiser.training
    assert all(weight.grad is None for weight in pretrained.denoiser.parameters())


def test_settings_of_a_bank_that_is_not_there_are_named(tmp_path):
    """And the usual ones are not, nor is 0: without a bank the defaults mean nothing either, and 0 is what is so."""
    pretrained, task = small_pretrained(), small_task()
    with pytest.warns(UserWarning, match="without a bank bank_share and bank_weight do nothing"):
        fine_tune(
            pretrained, task, config=DiffTuningConfig(steps=1, bank_share=0.5, bank_weight=1.0), folder=tmp_path / "a", progress=False
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, options in {"b": {}, "c": {"bank_share": 0.0, "bank_weight": 0.0}}.items():
            fine_tune(pretrained, task, config=DiffTuningConfig(steps=1, **options), folder=tmp_path / name, progress=False)


def test_a_class_without_pictures_is_warned_of(pretrained, task, tmp_path):
    """As in a file whose labels count from 1."""
    with pytest.warns(UserWarning, match="shapes has no picture of 1 of its classes, 'shape 0' first"):
        fine_tune(pretrained, task.subset(task.labels > 0), config=DiffTuningConfig(steps=1), folder=tmp_path, progress=False)


def test_a_bank_of_another_model_or_shape_is_refused(pretrained, task, tmp_path):
    for model, message in (
        (small_pretrained(seed=1), "was sampled from another model"),
        (small_pretrained(side=8), r"holds latents \(4, 8, 8\)"),
    ):
        foreign = small_bank(model, tmp_path / message[:4], size=3)
        with pytest.raises(ValueError, match=message):
            tune(pretrained, task, foreign, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data, options, message", [
    (small_task(side=16), {}, r"images must have shape \(N, 3, 8, 8\)"),
    (small_task(), {"family": "threshold", "reconsolidation_power": 2.0}, "threshold must be at least 0"),
    (small_task(classes=13), {}, "classes need as many label rows"),
])  # fmt: skip
def test_what_does_not_fit_together_leaves_no_folder(pretrained, bank, tmp_path, data, options, message):
    with pytest.raises(ValueError, match=message):
        tune(pretrained, data, bank, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_the_paper_family_at_tau_zero_has_no_retention_but_trains_without_a_bank(pretrained, task, bank, tmp_path):
    options = {"family": "paper", "reconsolidation_power": 0.0, "retention_power": 0.0, "steps": 1}
    for weighted in (False, True):
        with pytest.raises(ValueError, match="retention_power=0 gives retention no weight anywhere in family=paper"):
            tune(pretrained, task, bank, tmp_path / "run", weighted=weighted, **options)
    paper = tune(pretrained, task, None, tmp_path / "paper", **options)
    assert torch.equal(
        weights(paper.model.denoiser), weights(tune(pretrained, task, None, tmp_path / "plain", steps=1, **PLAIN).model.denoiser)
    )


def test_a_half_precision_model_is_tuned_in_full_precision(pretrained, task, tmp_path):
    pretrained.save(tmp_path / "model")
    half = load_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    result = tune(half, task, None, tmp_path / "run", steps=2)
    assert result.model.dtype == torch.float32 and half.dtype == torch.bfloat16
    assert sample(result.model, ["shape 0"], steps=2).isfinite().all()


@pytest.mark.parametrize("flip", [False, True])
def test_pictures_are_encoded_once_whatever_the_steps(pretrained, tmp_path, monkeypatch, flip):
    task, encode, encoded = small_task(flip=flip), Pretrained.encode, []
    monkeypatch.setattr(Pretrained, "encode", lambda self, images: encoded.append(len(images)) or encode(self, images))
    tune(pretrained, task, None, tmp_path / "run", **PLAIN)
    assert sum(encoded) == len(task) * (2 if flip else 1)


def test_a_full_disk_or_a_bad_picture_leaves_no_folder(pretrained, task, tmp_path, monkeypatch):
    def bad(chosen):
        raise DamagedFileError("photo.png is a damaged picture")

    with pytest.raises(DamagedFileError, match="photo.png"):
        tune(pretrained, replace(task, reader=bad), None, tmp_path / "run", **PLAIN)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(10, 10, 1000))
    with pytest.raises(OSError, match=r"\d [kM]B free"):
        tune(pretrained, task, None, tmp_path / "run", **PLAIN)
    assert not (tmp_path / "run").exists()


def test_target_and_bank_pictures_are_told_the_same_conditions_or_nothing_is_trained(pretrained, task, bank, tmp_path):
    config = DiffTuningConfig(steps=1)

    def brightness(images, names):
        return {"brightness": images.mean((1, 2, 3))}

    def contrast(images, names):
        return {"contrast": images.std((1, 2, 3))}

    for options, said in (
        ({"conditions": brightness, "bank_conditions": contrast}, "only one of them has 'brightness'"),
        ({"bank_conditions": contrast}, "give conditions, too"),
        (
            {"conditions": brightness, "null_conditions": {"text": torch.zeros(1)}},
            "null_conditions has 'text', which conditions does not give",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            fine_tune(pretrained, task, bank, config, folder=tmp_path / "run", progress=False, **options)
    assert not (tmp_path / "run").exists()
