"""Every adapter and every regularizer by its flag: trained, saved, loaded, drawn from; adapters beside their base, and merged."""

from __future__ import annotations

import shlex

import pytest
import torch
from diffusers import DiTPipeline

import difftuning as dt
from difftuning.models.adapters.options import ADAPTERS
from difftuning.training.regularizers import EWC, REGULARIZERS, Distillation
from tests.cli.helpers import run

CONFIG = dt.DiffTuningConfig(steps=2, batch_size=10, learning_rate=0.01)


def train(capsys, model, pictures, bank, folder, *flags):
    given = ["--model", model, "--task", pictures, "--bank", bank, "--folder", folder, "--device", "cpu"]
    code, out, err = run(capsys, "train", *given, "--steps", 2, "--batch-size", 10, "--learning-rate", 0.01, *flags)
    assert code == 0 and "2 steps, last target_loss" in out, err
    return dt.load_fine_tuned(folder)


def tune(model, pictures, bank, folder, **method):
    task, bank = dt.load_task(pictures), dt.MemoryBank.load(bank)
    return dt.fine_tune(dt.load_pretrained(model), task, bank, CONFIG, folder=folder, progress=False, **method).model


def drawn(capsys, folder, *flags):
    code, _, err = run(capsys, "sample", *flags, "--steps", 2, "--device", "cpu", "--out", folder / "drawn")
    assert code == 0, err
    return dt.load_task(folder / "drawn.npz")


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_drawn_from_alike_as_a_run_beside_its_base_and_merged(capsys, model, pictures, tuned, tmp_path, name):
    bank, folder, merged = tuned.parent / "bank", tmp_path / "run", tmp_path / "merged"
    result = train(capsys, model, pictures, bank, folder, "--adapter", name)
    direct = tune(model, pictures, bank, tmp_path / "direct", adapter=name)
    assert result.model.denoiser.adapter == ADAPTERS[name] and result.model.fingerprint == direct.fingerprint
    whole = drawn(capsys, tmp_path, "--model", folder)
    beside = drawn(capsys, tmp_path, "--model", model, "--adapter", folder)
    assert whole.labels.tolist() == beside.labels.tolist() == result.rows.tolist()
    assert torch.equal(whole.images, beside.images)
    code, out, err = run(capsys, "merge", folder, "--out", merged)
    if name in ("bitfit", "lora", "difffit"):
        assert code == 0, err
        images = drawn(capsys, tmp_path, *shlex.split(out.partition("difftuning sample ")[2])).images
        torch.testing.assert_close(images, whole.images, atol=1 / 127, rtol=0)  # up to rounding, kept in eight bits
        stock = DiTPipeline.from_pretrained(merged).transformer.eval()
        x_t, t = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 700])
        expected = direct.denoiser(x_t, t, result.rows[:2])
        torch.testing.assert_close(stock(x_t, timestep=t, class_labels=result.rows[:2]).sample, expected, rtol=1e-5, atol=1e-5)
    else:
        assert code == 2 and "it cannot be merged" in err and not merged.exists()


OPTIONS = {
    "ewc": (["--regularizer-samples", 5, "--regularizer-weight", 10], EWC(samples=5, weight=10.0)),
    "distillation": (["--regularizer-on", "target"], Distillation(on="target")),
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_regularizer_is_trained_with_its_options_saved_and_drawn_from(capsys, model, pictures, tuned, tmp_path, name):
    bank, (flags, regularizer) = tuned.parent / "bank", OPTIONS.get(name, ([], name))
    result = train(capsys, model, pictures, bank, tmp_path / "run", "--regularizer", name, *flags)
    direct = tune(model, pictures, bank, tmp_path / "direct", regularizer=regularizer)
    assert result.model.fingerprint == direct.fingerprint
    assert (f"{name}_loss" in result.history) == (name != "prior_preservation")  # which changes the bank's loss alone
    assert drawn(capsys, tmp_path, "--model", tmp_path / "run").labels.tolist() == result.rows.tolist()


def test_an_adapter_beside_its_base_is_merged_from_there(capsys, model, pictures, tuned, tmp_path):
    train(capsys, model, pictures, tuned.parent / "bank", tmp_path / "run", "--adapter", "lora")
    whole, adapter = tmp_path / "run" / "model", tmp_path / "run" / "model" / "adapter"
    for source, name in (([whole], "a"), ([model, "--adapter", whole], "b"), ([model, "--adapter", adapter], "c")):
        assert run(capsys, "merge", *source, "--out", tmp_path / name)[0] == 0
    assert len({dt.load_pretrained(tmp_path / name).fingerprint for name in "abc"}) == 1
    code, _, err = run(capsys, "sample", "--model", tmp_path / "a", "--adapter", adapter)
    assert code == 2 and "was trained on another model" in err


def test_an_adapter_of_a_run_brings_the_tasks_classes_wherever_their_rows_are(capsys, model, pictures, tuned, tmp_path):
    """Here they take the source's own rows, so they do not stand after them."""
    result = train(capsys, model, pictures, tuned.parent / "bank", tmp_path / "run", "--adapter", "bitfit", "--label-rows", "first")
    assert result.rows.tolist() == [0, 1, 2]
    assert drawn(capsys, tmp_path, "--model", model, "--adapter", tmp_path / "run").labels.tolist() == [0, 1, 2]


def test_a_warning_is_said_in_a_line_as_the_commands_flags(capsys, model, pictures, tmp_path):
    flags = ["--model", model, "--task", pictures, "--folder", tmp_path / "run", "--steps", 1, "--bank-labels", "own"]
    code, _, err = run(capsys, "train", *flags)
    assert code == 0 and "difftuning: warning: without a bank --bank-labels does nothing" in err and ".py" not in err
