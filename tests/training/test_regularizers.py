"""Each regularizer through `fine_tune`, against a few lines that compute its term from the run's own draws."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from difftuning import DiffTuningConfig, fine_tune
from difftuning.diffusion.losses import hybrid_loss
from difftuning.diffusion.timestep_weights import timestep_distribution
from difftuning.models.adapters.options import LoRA
from difftuning.training import penalties
from difftuning.training.checkpoints import trainable
from difftuning.training.label_rows import choose_rows
from difftuning.training.objective import Stream
from difftuning.training.penalties import RunContext
from difftuning.training.regularizers import EWC, L2SP, REGULARIZERS, Distillation, PriorPreservation
from difftuning.training.streams import split_batch, training_streams
from tests.training.helpers import PLAIN, weights


def tune(pretrained, task, bank, folder, regularizer, *, callbacks=(), adapter=None, **options):
    config = DiffTuningConfig(**{"steps": 6, "checkpoint_every": 2, "learning_rate": 1e-2, "batch_size": 10, **options})
    return fine_tune(
        pretrained, task, bank, config, folder=folder, regularizer=regularizer, callbacks=callbacks, adapter=adapter, progress=False
    )


def context(pretrained, task, bank, **options) -> RunContext:
    config = DiffTuningConfig(steps=1, **options)
    rows = choose_rows(pretrained, len(task.class_names), config.label_rows)
    streams = training_streams(pretrained, task, bank, config, rows, split_batch(config, bank, unused=True))
    return RunContext(pretrained, pretrained.copy_denoiser(), streams, config.seed, bank)


def test_l2_sps_column_is_half_the_squared_distance_from_the_start(pretrained, task, tmp_path):
    """With classes in rows that have one already: new rows would start elsewhere than in the pre-trained model."""
    seen = []
    keep = lambda state: seen.append({name: weight.detach().clone() for name, weight in state.module.named_parameters()})  # noqa: E731
    tuned = tune(pretrained, task, None, tmp_path, "l2_sp", callbacks=[keep], label_rows="first")
    assert tuned.history.l2_sp_loss[0] == 0
    for step in range(1, 6):
        by_loop = sum((seen[step - 1][name] - first).square().sum().item() for name, first in pretrained.denoiser.named_parameters()) / 2
        assert tuned.history.l2_sp_loss[step] == pytest.approx(by_loop, rel=1e-4)


def test_ewcs_fisher_is_that_of_a_loop_over_the_banks_samples(pretrained, task, bank, monkeypatch):
    run, found = context(pretrained, task, bank, bank_share=0.0), []
    monkeypatch.setattr(penalties, "diagonal_fisher", lambda losses, own: found.append(list(losses)) or [torch.ones_like(w) for w in own])
    EWC(samples=5)(run)
    stream = Stream(
        "source", bank.latents, bank.labels, 1, timestep_distribution(1000, 0), label_drop=0.1, null_label=pretrained.null_label
    )
    for i, loss in enumerate(found[0]):
        draw = stream.draw(run.seed, i)
        x_t = pretrained.diffusion.q_sample(draw.x_0, draw.t, draw.noise)
        output = run.denoiser(x_t, draw.t, draw.labels)
        torch.testing.assert_close(loss, hybrid_loss(output, draw.x_0, x_t, draw.noise, draw.t, pretrained.diffusion)[0])


def test_ewc_weighs_the_way_from_the_start_by_brute_force_squares_of_gradients(pretrained, task, bank):
    run = context(pretrained, task, bank, bank_share=0.0)
    (penalty,) = EWC(samples=4, weight=7.0)(run)
    stream = Stream(
        "source", bank.latents, bank.labels, 1, timestep_distribution(1000, 0), label_drop=0.1, null_label=pretrained.null_label
    )
    module, expected = pretrained.copy_denoiser(), 0.0
    fisher = {name: torch.zeros_like(weight) for name, weight in trainable(module).items()}
    for i in range(4):
        draw = stream.draw(0, i)
        x_t = pretrained.diffusion.q_sample(draw.x_0, draw.t, draw.noise)
        module.zero_grad()
        hybrid_loss(module(x_t, draw.t, draw.labels), draw.x_0, x_t, draw.noise, draw.t, pretrained.diffusion).sum().backward()
        for name, weight in trainable(module).items():
            fisher[name] += weight.grad**2 / 4
    with torch.no_grad():
        for name, weight in trainable(module).items():
            weight.add_(0.1)
            expected += 0.5 * float(fisher[name].sum()) * 0.1**2
    half = type("Part", (), {"share": 0.5})()
    assert penalty.value(module, half).item() == pytest.approx(0.5 * expected, rel=1e-3) and penalty.weight == 7


def test_ewc_draws_pictures_of_its_own_where_there_is_no_bank(pretrained, task, monkeypatch):
    asked = []
    real = penalties.sample_latents
    monkeypatch.setattr(penalties, "sample_latents", lambda *given, **options: asked.append(given) or real(*given, **options))
    EWC(samples=7, sampling_steps=2)(context(pretrained, task, None))
    assert asked[0][0] is pretrained and asked[0][1].tolist() == [0, 1, 2, 3, 4, 0, 1]


@pytest.mark.parametrize("on", ["bank", "target"])
def test_distillation_is_the_difference_from_the_frozen_models_noise(pretrained, task, bank, tmp_path, on):
    """At step 1, after one step of training, on the pictures and labels that it says."""
    modules, options = [], {"steps": 2, "bank_labels": "own", "label_drop": 0.0}
    keep = lambda state: modules.append(state.ema_model())  # noqa: E731
    tuned = tune(pretrained, task, bank, tmp_path, Distillation(on=on), callbacks=[keep], ema_warmup=False, ema_decay=0.0, **options)
    run = context(pretrained, task, bank, batch_size=10, **{name: options[name] for name in ("bank_labels", "label_drop")})
    draw = next(stream for stream in run.streams if stream.name == on).draw(0, 1)
    labels = draw.labels if on == "bank" else torch.full_like(draw.labels, pretrained.null_label)
    x_t = pretrained.diffusion.q_sample(draw.x_0, draw.t, draw.noise)
    with torch.no_grad():
        now, before = (model(x_t, draw.t, labels)[:, :4] for model in (modules[0], pretrained.denoiser))
    assert tuned.history.distillation_loss[0] == pytest.approx(0, abs=1e-9)
    assert tuned.history.distillation_loss[1] == pytest.approx(float((now - before).square().mean()), rel=1e-4)


def test_a_bank_at_weight_0_is_there_for_distillation_alone(pretrained, task, bank, tmp_path):
    near, far = (
        tune(pretrained, task, bank, tmp_path / f"{weight}", Distillation(weight=weight), steps=30, bank_weight=0.0, **PLAIN)
        for weight in (30.0, 1e-6)
    )
    assert near.history.distillation_loss[-5:].mean() < 0.5 * far.history.distillation_loss[-5:].mean()


def test_prior_preservation_is_the_bank_at_uniform_t_under_its_own_labels_at_weight_1(pretrained, task, bank, tmp_path):
    by_name = tune(pretrained, task, bank, tmp_path / "name", "prior_preservation", **PLAIN)
    same = tune(pretrained, task, bank, tmp_path / "spelt", None, bank_weight=1.0, bank_labels="own", retention_power=0.0, **PLAIN)
    assert torch.equal(weights(by_name.model.denoiser), weights(same.model.denoiser)) and by_name.config == same.config
    assert by_name.config.bank_weight == 1 and list(by_name.history) == ["step", "target_loss", "bank_loss", "seconds"]


QUICK = REGULARIZERS | {"ewc": EWC(samples=6)}


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("adapter", [None, "lora"])
def test_an_interrupted_run_goes_on_to_the_same_bits(pretrained, task, bank, tmp_path, name, adapter):
    def cut(state):
        if state.step == 3:
            raise KeyboardInterrupt

    run = partial(tune, pretrained, task, bank, regularizer=QUICK[name], adapter=adapter)
    straight = run(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", callbacks=[cut])
    resumed = run(tmp_path / "cut")
    assert torch.equal(weights(straight.model.denoiser), weights(resumed.model.denoiser))
    assert straight.history.drop(columns="seconds").equals(resumed.history.drop(columns="seconds"))


@pytest.mark.parametrize("name", ["l2_sp", "ewc", "distillation"])
def test_a_batch_cut_into_parts_gives_the_same_penalty(pretrained, task, bank, tmp_path, name):
    whole, parts = (tune(pretrained, task, bank, tmp_path / f"{n}", QUICK[name], accumulation=n).history for n in (1, 2))
    torch.testing.assert_close(torch.tensor(whole[f"{name}_loss"]), torch.tensor(parts[f"{name}_loss"]), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("regularizer", [L2SP(weight=100.0), EWC(weight=1e6, samples=6)])
def test_a_strong_penalty_keeps_the_weights_near_the_start(pretrained, task, bank, tmp_path, regularizer):
    options = {"bank_share": 0.0, "steps": 20, "learning_rate": 1e-3, **PLAIN}
    held = tune(pretrained, task, bank if isinstance(regularizer, EWC) else None, tmp_path / "held", regularizer, **options)
    free = tune(pretrained, task, None, tmp_path / "free", None, **options)
    (penalty,) = regularizer(context(pretrained, task, bank, bank_share=0.0))
    part = type("Part", (), {"share": 1.0})()
    held_at, free_at = (penalty.value(run.model.denoiser.requires_grad_(True), part).item() for run in (held, free))
    assert held_at < 0.5 * free_at


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (lambda **run: tune(**run, bank=None, regularizer="ewcc"), "unknown regularizer 'ewcc'.*did you mean 'ewc'"),
        (lambda **run: tune(**run, bank=None, regularizer="prior_preservation"), "prior_preservation replays pictures .*pass a bank"),
        (lambda **run: tune(**run, bank=None, regularizer=Distillation(on="bank")), "distillation on the bank's pictures needs some"),
        (lambda **run: EWC(weight=0), "weight must be more than 0, got 0"),
        (lambda **run: EWC(samples=2.5), "samples must be a whole number"),
        (lambda **run: Distillation(on="both"), "unknown on 'both': choose one of auto, bank, target"),
        (lambda **run: PriorPreservation(weight=float("nan")), "weight must be more than 0"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(pretrained, task, tmp_path, mistake, said):
    with pytest.raises(ValueError, match=said):
        mistake(pretrained=pretrained, task=task, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("regularizer", ["l2_sp", "distillation"])
def test_a_bank_that_nothing_would_read_is_refused(pretrained, task, bank, tmp_path, regularizer):
    with pytest.raises(ValueError, match="bank_share 0.0 holds no bank picture: raise the share, or pass bank=None"):
        tune(pretrained, task, bank, tmp_path / "run", regularizer, bank_share=0.0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("swapped, said", [({"adapter": EWC()}, "is no adapter: it goes where the regularizer does"), ({"regularizer": LoRA()}, "is no regularizer: it goes where the adapter does")])  # fmt: skip
def test_adapters_and_regularizers_are_not_taken_for_each_other(pretrained, task, tmp_path, swapped, said):
    with pytest.raises(ValueError, match=said):
        fine_tune(pretrained, task, config=DiffTuningConfig(steps=1), folder=tmp_path, progress=False, **swapped)


def test_prior_preservation_does_not_overrule_what_was_asked_for(pretrained, task, bank, tmp_path):
    with pytest.raises(ValueError, match="prior_preservation takes retention_power 0.0, not 2.0: leave that out"):
        tune(pretrained, task, bank, tmp_path, "prior_preservation", retention_power=2.0)


def test_prior_preservation_needs_a_family_that_can_be_uniform(pretrained, task, bank, tmp_path):
    with pytest.raises(ValueError, match="take family='official'"):
        tune(pretrained, task, bank, tmp_path, "prior_preservation", family="paper")
