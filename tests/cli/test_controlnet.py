"""A ControlNet by the command line: trained and drawn from as by the functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import difftuning as dt
from difftuning.data.captions import caption_pictures, name_pictures
from difftuning.data.conditions import KINDS
from difftuning.data.tasks import spread_evenly
from small import small_depth_annotator, small_text_to_image
from tests.cli.helpers import run


@pytest.mark.parametrize("kind", KINDS)
def test_a_controlnet_is_trained_with_its_bank_and_drawn_from(capsys, text_model, pictures, tmp_path, kind):
    flags = ["--control", kind, "--task", pictures, "--device", "cpu"]
    training = ["--model", text_model, "--bank", text_model.parent / "bank", "--folder", tmp_path / "run", "--steps", 2, "--batch-size", 5]
    code, out, err = run(capsys, "train", *flags, *training)
    assert code == 0 and "2 steps, last target_loss" in out, err
    drawing = ["--model", tmp_path / "run", "--count", 3, "--steps", 2, "--out", tmp_path / "drawn", "--prompts", "a small shoe"]
    code, out, err = run(capsys, "sample", *flags, *drawing)
    assert code == 0 and len(out.split()) == 4, err
    assert dt.load_task(tmp_path / "drawn.npz").images.shape == (3, 3, 8, 8)
    task = dt.load_task(str(pictures), split="test")
    found = dt.annotate(kind, task.subset(spread_evenly(len(task), 3)).images)
    torch.testing.assert_close((dt.load_task(tmp_path / "drawn_conditions.npz").images + 1) / 2, found, atol=1 / 254, rtol=0)
    other = next(name for name in KINDS if name != kind)
    code, _, err = run(capsys, "sample", "--control", other, "--task", pictures, *drawing)
    assert code == 2 and f"run was trained for {kind}: give --control {kind}, not {other}" in err


def test_a_controlnets_settings_are_the_functions_where_none_are_given_and_the_users_where_they_are(capsys, text_model, pictures, tmp_path):
    """A run of the command line goes on by the function without a config, which a run with other settings does not."""
    base, task, bank = dt.load_pretrained(text_model), dt.load_task(str(pictures)), dt.MemoryBank.load(text_model.parent / "bank")
    flags = ["train", "--control", "edge", "--model", text_model, "--task", pictures, "--bank", bank.folder, "--device", "cpu"]
    code, _, err = run(capsys, *flags, "--folder", tmp_path / "run", "--steps", 2)
    assert code == 0, err

    def stop(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dt.fine_tune_controlnet(base, task, bank, folder=tmp_path / "run", callbacks=[stop], progress=False)
    with pytest.raises(ValueError, match="label_drop was 0.5, is 0.1"):
        dt.fine_tune_controlnet(base, task, bank, dt.DiffTuningConfig(steps=3, bank_labels="own"), folder=tmp_path / "run")
    code, _, err = run(capsys, *flags, "--folder", tmp_path / "own", "--steps", 1, "--label-drop", 0.1, "--bank-labels", "null")
    assert code == 0 and dt.load_fine_tuned(tmp_path / "own").config == dt.DiffTuningConfig(steps=1), err


def test_a_models_annotator_named_captions_and_a_blank_bank_are_the_functions(capsys, text_model, pictures, tmp_path):
    """With a depth model of random weights, in training and in drawing."""
    small_depth_annotator(tmp_path / "depth")
    bank, out = text_model.parent / "bank", tmp_path / "drawn"
    flags = ["--control", "depth", "--annotator", tmp_path / "depth", "--captions", "names", "--task", pictures, "--device", "cpu"]
    training = ["--bank", bank, "--bank-control", "blank", "--channels", "8,16", "--steps", 2, "--batch-size", 10, "--model", text_model]
    code, _, err = run(capsys, "train", *flags, *training, "--folder", tmp_path / "run")
    assert code == 0, err
    direct = dt.fine_tune_controlnet(
        dt.load_pretrained(text_model), dt.load_task(str(pictures)), dt.MemoryBank.load(bank),
        dt.DiffTuningConfig(steps=2, batch_size=10, label_drop=0.5, bank_labels="own"), kind="depth", folder=tmp_path / "direct",
        captions=name_pictures, annotator=tmp_path / "depth", bank_control="blank", channels=(8, 16), progress=False,
    ).model  # fmt: skip
    assert dt.load_fine_tuned(tmp_path / "run").model.fingerprint == direct.fingerprint
    drawing = ["--model", tmp_path / "run", "--count", 3, "--steps", 2, "--batch-size", 2, "--out", out]
    code, _, err = run(capsys, "sample", *flags, *drawing)
    assert code == 0, err
    task = dt.load_task(pictures, split="test")
    chosen = task.subset(spread_evenly(len(task), 3))
    conditions = dt.annotate("depth", chosen.images, annotator=tmp_path / "depth")
    prompts = name_pictures(chosen.images, [chosen.class_names[label] for label in chosen.labels])
    expected = dt.sample_controlnet(direct, prompts, conditions, steps=2, progress=False)
    torch.testing.assert_close(dt.load_task(f"{out}.npz").images, expected, atol=1 / 127, rtol=0)
    torch.testing.assert_close((dt.load_task(f"{out}_conditions.npz").images + 1) / 2, conditions, atol=1 / 254, rtol=0)


def test_a_controlnet_by_itself_draws_beside_its_base_after_captions_with_one_name(capsys, pictures, tmp_path):
    base = small_text_to_image()
    base.save(tmp_path / "base")
    training = ["--model", tmp_path / "base", "--task", pictures, "--folder", tmp_path / "run", "--steps", 1, "--batch-size", 5]
    code, _, err = run(capsys, "train", "--control", "edge", "--called", "shoe", *training, "--device", "cpu")
    assert code == 0 and "CaptionAs(name='shoe')" in (tmp_path / "run" / "run.json").read_text(), err
    tuned = dt.load_fine_tuned(tmp_path / "run").model
    tuned.denoiser.controlnet.save_pretrained(tmp_path / "kept")
    flags = ["--device", "cpu", "--task", pictures, "--count", 3, "--steps", 2, "--out", tmp_path / "drawn", "--control", "edge"]
    code, _, err = run(capsys, "sample", "--model", tmp_path / "base", "--controlnet", tmp_path / "kept", "--called", "shoe", *flags)
    assert code == 0, err
    task = dt.load_task(pictures, split="test", size=8)
    chosen = task.subset(spread_evenly(len(task), 3))
    prompts = caption_pictures(chosen.images, ["shoe"] * 3)
    expected = dt.sample_controlnet(tuned, prompts, dt.annotate("edge", chosen.images), steps=2, progress=False)
    drawn = dt.load_task(tmp_path / "drawn.npz").images
    torch.testing.assert_close(drawn, expected, atol=1 / 127, rtol=0)  # kept in eight bits

    own = tmp_path / "own.npz"  # a set without splits
    np.savez(own, images=np.repeat(np.arange(4, dtype=np.uint8)[:, None, None] * 60, 8, 1).repeat(8, 2), labels=np.arange(4) % 2)
    flags = ["--device", "cpu", "--task", own, "--count", 2, "--steps", 1, "--out", tmp_path / "of_own", "--control", "edge"]
    code, _, err = run(capsys, "sample", "--model", tmp_path / "run", *flags)
    assert code == 0, err
