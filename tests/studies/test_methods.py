"""Each method is what its name says, and goes through `fine_tune`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from difftuning.config import DiffTuningConfig
from difftuning.data.tasks import load_source, load_task
from difftuning.diffusion.timestep_weights import reconsolidation_distribution, retention_distribution
from difftuning.models.adapters.apply import adapter_of
from difftuning.models.loading import load_pretrained
from difftuning.studies.banks import (
    bank_as_small,
    bank_of_far_classes,
    bank_of_noise,
    bank_of_real_pictures,
    bank_of_target_pictures,
    first_pictures,
    shipped_bank,
)
from difftuning.studies.methods import ADAPTED, BASELINES, MAIN, METHODS, PARTS, PILOT, REGULARIZER_WEIGHTS, SWEPT
from difftuning.training.fine_tune import fine_tune
from small import small_bank, small_pretrained, small_task


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    pretrained = small_pretrained()
    return pretrained, small_task(), small_task(seed=9), small_bank(pretrained, tmp_path_factory.mktemp("bank") / "bank", size=6)


@pytest.mark.parametrize("name", [*ADAPTED, *BASELINES])
def test_adapters_and_baselines_train_through_the_one_seam(world, tmp_path, name):
    (pretrained, task, validation, bank), method = world, METHODS[name]
    if name == "EWC":
        method = replace(method, regularizer=replace(method.regularizer, samples=5))
    config = DiffTuningConfig(steps=2, batch_size=10, **method.options)
    callbacks = [method.stopping(pretrained, validation, config, every=1)] if method.stopping else []
    tuned = fine_tune(
        pretrained, task, bank if method.bank else None, config, folder=tmp_path / "run", adapter=method.adapter,
        regularizer=method.regularizer, callbacks=callbacks, progress=False,
    )  # fmt: skip
    assert adapter_of(tuned.model.denoiser) == method.adapter and len(tuned.history) == 2
    replayed = "Diff-Tuning" in name or name.startswith(("hard", "prior", "distillation"))
    assert tuned.history.bank_loss.notna().all() == replayed
    penalty = {"L2-SP": "l2_sp_loss", "EWC": "ewc_loss", "distillation": "distillation_loss"}.get(name)
    assert set(tuned.history) - {"step", "target_loss", "bank_loss", "seconds"} == ({penalty} if penalty else set())


def test_an_adapter_with_diff_tuning_differs_from_it_plain_in_the_method_alone():
    plain = [name for name in ADAPTED if not name.endswith(" + Diff-Tuning")]
    assert len(plain) == 7 and len({ADAPTED[name].adapter for name in plain}) == 7
    for name in plain:
        both = ADAPTED[f"{name} + Diff-Tuning"]
        assert replace(ADAPTED[name], adapter=None, rate_of="plain") == MAIN["plain"]
        assert both == replace(MAIN["Diff-Tuning"], adapter=ADAPTED[name].adapter, rate_of=ADAPTED[name].rate_of)


def test_a_baseline_draws_the_targets_t_uniformly_unless_it_has_a_schedule():
    for name, method in (BASELINES | REGULARIZER_WEIGHTS).items():
        config = DiffTuningConfig(steps=1, **method.options)
        psi = reconsolidation_distribution(config.family, 1000, config.reconsolidation_power)
        uniform = torch.full((1000,), 1e-3, dtype=torch.float64)
        assert torch.allclose(psi, uniform) != name.startswith("hard threshold"), name


def test_a_hard_threshold_gives_the_noise_end_to_the_target_and_the_data_end_to_the_bank():
    options = METHODS["hard threshold 0.25"].options
    psi = reconsolidation_distribution(options["family"], 1000, options["reconsolidation_power"])
    xi = retention_distribution(options["family"], 1000, options["retention_power"])
    assert psi.nonzero().flatten().tolist() == list(range(250, 1000)) and xi.nonzero().flatten().tolist() == list(range(250))


def test_a_sweep_changes_one_factor_of_diff_tuning():
    factors = {
        "tau": {"family", "reconsolidation_power", "retention_power"},
        "bank of": {"bank"},
        "bank share": {"bank_share"},
        "Diff": {"bank_weight"},
    }
    for name, method in SWEPT.items():
        changed = set(method.options) | ({"bank"} if method.bank is not shipped_bank else set())
        assert changed <= next(allowed for start, allowed in factors.items() if name.startswith(start)) and changed, name
        assert replace(method, options={}, bank=shipped_bank) == MAIN["Diff-Tuning"]


def test_the_pilot_is_the_first_five_of_the_parts_and_no_name_means_two_things():
    assert list(PILOT) == list(PARTS)[:5] and list(MAIN) == list(PARTS)[:2]
    tables = [PARTS, ADAPTED, BASELINES, REGULARIZER_WEIGHTS, SWEPT]
    for name in METHODS:
        described = {(str(table[name].options), table[name].regularizer) for table in tables if name in table}
        assert len(described) == 1, name


def test_the_controls_banks_are_what_they_are_called():
    digits, footwear = (load_task(name).subset(range(200)) for name in ("digits", "footwear"))
    shipped, kinds = shipped_bank(digits), dict(zip(load_source().labels.tolist(), load_source().kinds))
    assert {kinds[label] for label in bank_of_far_classes(digits).labels.tolist()} == {"photograph"}
    assert {kinds[label] for label in bank_of_far_classes(footwear).labels.tolist()} == {"letter"}
    small = bank_as_small(digits)
    assert len(small) == len(bank_of_far_classes(digits)) and len({kinds[label] for label in small.labels.tolist()}) > 3
    hundred = first_pictures(100)(digits)
    assert len(hundred) == 100 and torch.equal(hundred.latents, shipped.latents[:100])
    noise = bank_of_noise(digits)
    assert len(noise) == len(shipped) and noise.latents.std() == pytest.approx(1, abs=0.01)
    banks = {method.bank(digits).fingerprint for method in METHODS.values() if method.bank}
    assert len(banks) == 9  # a run of one is never taken for a run of another


def test_a_bank_of_real_pictures_has_the_banks_classes_and_the_sources_pictures():
    bank, source, pretrained = bank_of_real_pictures(load_task("digits")), load_source(), load_pretrained("tiny")
    assert torch.equal(bank.labels, shipped_bank(load_task("digits")).labels)
    own = pretrained.encode(source.read((source.labels == bank.labels[0]).nonzero().flatten()))
    assert min(float((bank.latents[0] - latent).abs().max()) for latent in own) < 1e-4


def test_a_bank_of_target_pictures_holds_what_is_trained_on():
    task = load_task("digits").subset(range(30))
    bank = bank_of_target_pictures(task)
    assert len(bank) == 30 and torch.allclose(bank.latents, load_pretrained("tiny").encode(task.images), atol=1e-4)
