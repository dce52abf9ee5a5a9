"""The names that lessons, users and outside checks rely on exist, and are called as the design writes them."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import difftuning as dt
from small import small_bank, small_pretrained, small_task

# `...` is "some default".  The code may have further parameters as long as they have defaults.
SIGNATURES = {
    "retention_weight": "t, num_timesteps, tau=1.0",
    "reconsolidation_weight": "t, num_timesteps, tau=1.0",
    "timestep_distribution": "num_timesteps, power, *, descending=False",
    "loss_weights": "distribution",
    "p2_weight": "snr, *, k=1.0, gamma=1.0",
    "min_snr_weight": "snr, *, gamma=5.0",
    "Diffusion": "betas=...",
    "Diffusion.q_sample": "self, x_0, t, noise",
    "Diffusion.predict_x0": "self, x_t, t, eps",
    "Diffusion.predict_eps": "self, x_t, t, x_0",
    "hybrid_loss": "model_output, x_0, x_t, noise, t, diffusion",
    "ideal_denoiser": "x_t, t, data, alphas_cumprod",
    "load_pretrained": "source, *, device=None, dtype=None",
    "Pretrained.encode": "self, images",
    "Pretrained.decode": "self, latents",
    "Pretrained.save": "self, folder",
    "convert_original_dit": "state_dict, *, num_heads",
    "apply_adapter": "model, name, *, seed=0, **options",
    "merge_adapter": "model",
    "parameter_share": "denoiser, *, num_classes=None",
    "load_adapter": "pretrained, folder",
    "load_controlnet": "base, source",
    "load_task": "source, *, split='train', size=None",
    "list_tasks": "",
    "MemoryBank.sample": "pretrained, size, *, folder, seed=0, labels=None, sampler='ddim', steps=50, guidance=1.5, resume=True",
    "MemoryBank.load": "folder",
    "MemoryBank.verify": "self",
    "MemoryBank.repair": "self, pretrained",
    "fine_tune": "pretrained, task, bank=None, config=..., *, folder, resume=True, callbacks=()",
    "FineTuned.save": "self, folder",
    "load_fine_tuned": "folder",
    "EarlyStopping": "pretrained, validation, config, *, every=100, patience=5, draws=256",
    "sample": "model, labels, *, steps=50, sampler='ddim', guidance=1.5, guide=None, start=None, switch_to=None, switch_at=None, seed=0, generator=None",
    "fine_tune_controlnet": "base, task, bank=None, config=..., *, kind='edge', folder, resume=True, callbacks=()",
    "sample_controlnet": "model, prompts, conditions, *, steps=50, sampler='ddim', guidance=1.5, seed=0, generator=None",
    "evaluate": "images, reference, *, features='tiny'",
    "zero_shot_denoising": "model, images, timesteps, *, seed=0",
    "denoiser_replacement": "tuned, pretrained, fractions, reference, *, seed=0",
    "transferability": "pretrained, task, *, seed=0",
    "loss_ratio": "before, after, images, labels, timesteps, *, seed=0",
    "annotate": "kind, images",
    "condition_agreement": "kind, asked, found",
    "sudden_convergence_step": "steps, scores, *, threshold, k=3",
}
TYPES = {"Diffusion", "Pretrained", "Task", "MemoryBank", "DiffTuningConfig", "ControlNetConfig", "FineTuned"}
CONFIG_DEFAULTS = {
    "batch_size": 32, "bank_share": 0.2, "bank_weight": 0.1, "reconsolidation_power": 1.0, "retention_power": 1.0,
    "learning_rate": 1e-4, "weight_decay": 0.0, "ema_decay": 0.9999, "ema_warmup": True, "label_drop": 0.1,
    "bank_labels": "null", "seed": 0,
}  # fmt: skip


def resolve(name: str) -> object:
    found = dt
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_call_written_as_in_the_design_is_accepted(name):
    promised = inspect.signature(eval(f"lambda {SIGNATURES[name]}: None")).parameters
    actual = inspect.signature(resolve(name)).parameters
    assert list(promised) == [p for p in actual if p in promised], "missing or in another order"
    for parameter in promised.values():
        assert actual[parameter.name].kind == parameter.kind, parameter.name
        if parameter.default is ...:
            assert actual[parameter.name].default is not inspect.Parameter.empty, parameter.name
        else:
            assert actual[parameter.name].default == parameter.default, parameter.name
    positional = [p for p in actual.values() if p.kind != inspect.Parameter.KEYWORD_ONLY]
    assert [p.name for p in positional[: len(promised)]] == [p.name for p in promised.values() if p.kind != p.KEYWORD_ONLY]
    for extra in set(actual) - set(promised):
        assert actual[extra].default is not inspect.Parameter.empty, f"{extra} has no default"


def test_the_table_and_all_hold_the_same_names():
    promised = {name.split(".")[0] for name in SIGNATURES} | TYPES
    assert set(dt.__all__) == promised | {"__version__"}
    assert len(dt.__all__) == len(set(dt.__all__))


def test_a_name_that_is_not_there_says_so():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dt.nothing


def test_dir_and_star_import_offer_the_public_names():
    assert set(dt.__all__) <= set(dir(dt))
    namespace: dict[str, object] = {}
    exec("from difftuning import *", namespace)
    assert set(dt.__all__) <= set(namespace)


def test_editors_see_the_names_that_are_found_at_run_time():
    """The TYPE_CHECKING imports of __init__.py and its table name the same files."""
    blocks = [node for node in ast.parse(Path(dt.__file__).read_text()).body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in blocks[0].body for alias in node.names}
    assert seen == dt._FILES


def test_the_configuration_has_the_published_defaults():
    assert {field.name for field in fields(dt.DiffTuningConfig)} >= set(CONFIG_DEFAULTS)
    config = dt.DiffTuningConfig(steps=10)
    assert {name: getattr(config, name) for name in CONFIG_DEFAULTS} == CONFIG_DEFAULTS


def test_objects_carry_the_attributes_of_the_design(tmp_path):
    pretrained, task = small_pretrained(), small_task()
    bank = small_bank(pretrained, tmp_path / "bank")
    for thing, names in (
        (dt.Diffusion(), "num_timesteps betas alphas_cumprod snr"),
        (pretrained, "denoiser diffusion null_label label_names latent_shape first_free_label"),
        (task, "images labels class_names name flip"),
        (bank, "latents labels"),
    ):
        for name in names.split():
            assert hasattr(thing, name), f"{type(thing).__name__}.{name}"
    assert len(bank) == len(bank.latents) == len(bank.labels)
    assert {field.name for field in fields(dt.FineTuned)} >= {"model", "history", "config"}
