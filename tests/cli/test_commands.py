"""The command line does what the functions do."""

from __future__ import annotations

import json
import shutil

import numpy as np
import torch
from PIL import Image

import difftuning as dt
from difftuning.models.adapters.options import LoRA
from difftuning.studies import controlnet
from difftuning.studies.control_cells import ControlCell
from difftuning.studies.tables import read_rows, write_rows
from difftuning.support.world import data_folder
from difftuning.training.regularizers import L2SP
from small import small_text_to_image
from tests.cli.helpers import run


def test_training_takes_the_file_and_lets_flags_win(tuned):
    result = dt.load_fine_tuned(tuned)
    assert result.config == dt.DiffTuningConfig(steps=2, batch_size=10, learning_rate=3e-4, ema_warmup=False)
    assert list(result.history) == ["step", "target_loss", "bank_loss", "seconds"] and len(result.history) == 2
    assert result.rows.tolist() == [5, 6, 7]


def test_training_equals_the_function(tuned, model, pictures, tmp_path):
    pretrained, bank = dt.load_pretrained(model), dt.MemoryBank.load(tuned.parent / "bank")
    config = dt.DiffTuningConfig(steps=2, batch_size=10, learning_rate=3e-4, ema_warmup=False)
    same = dt.fine_tune(pretrained, dt.load_task(str(pictures)), bank, config, folder=tmp_path / "run", progress=False)
    assert same.model.fingerprint == dt.load_fine_tuned(tuned).model.fingerprint


def test_an_adapter_and_a_regularizer_are_trained_sampled_and_gone_on_with(capsys, model, pictures, tuned, tmp_path):
    """Options as flags or in the file; the result is a model for `sample` as any other."""
    (tmp_path / "run.toml").write_text('adapter = "lora"\nrank = 2\nregularizer = "l2_sp"')
    same = ["--config", tmp_path / "run.toml", "--model", model, "--task", pictures, "--bank", tuned.parent / "bank", "--device", "cpu"]
    same += ["--folder", tmp_path / "run", "--batch-size", 10, "--targets", "attention", "--regularizer-weight", 0.5]
    for steps in (2, 3):
        code, out, err = run(capsys, "train", *same, "--steps", steps)
        assert code == 0, err
    assert "3 steps" in out and "l2_sp_loss" in out and "of the weights trained" in out
    result = dt.load_fine_tuned(tmp_path / "run")
    assert result.model.denoiser.adapter == LoRA(rank=2, targets="attention")
    direct = dt.fine_tune(
        dt.load_pretrained(model), dt.load_task(str(pictures)), dt.MemoryBank.load(tuned.parent / "bank"),
        dt.DiffTuningConfig(steps=3, batch_size=10), folder=tmp_path / "direct", progress=False,
        adapter=LoRA(rank=2, targets="attention"), regularizer=L2SP(weight=0.5),
    )  # fmt: skip
    assert direct.model.fingerprint == result.model.fingerprint
    code, _, err = run(capsys, "sample", "--model", tmp_path / "run", "--steps", 2, "--device", "cpu", "--out", tmp_path / "drawn")
    assert code == 0 and (tmp_path / "drawn.npz").is_file(), err


def test_early_stopping_ends_a_run_as_the_function_does_on_pictures_of_its_own(capsys, model, pictures, tmp_path):
    """With the options in the file, and again in the same folder, where nothing is left to do."""
    with np.load(pictures) as held:
        own = {name: held[f"test_{name}"] for name in ("images", "labels")}
        np.savez(tmp_path / "own.npz", **own, class_names=held["class_names"])
        np.savez(tmp_path / "split.npz", **held, **{f"validation_{name}": array for name, array in own.items()})
    (tmp_path / "run.toml").write_text("early_stopping_every = 2\nearly-stopping-patience = 2\nearly_stopping_draws = 8")
    config = dt.DiffTuningConfig(steps=40, batch_size=10, learning_rate=0.1)
    pretrained, stopping = dt.load_pretrained(model), {"every": 2, "patience": 2, "draws": 8}
    callbacks = [dt.EarlyStopping(pretrained, dt.load_task(tmp_path / "own.npz"), config, **stopping)]
    direct = dt.fine_tune(pretrained, dt.load_task(pictures), None, config, folder=tmp_path / "direct", callbacks=callbacks, progress=False)
    flags = ["--config", tmp_path / "run.toml", "--model", model, "--device", "cpu"]
    flags += ["--steps", 40, "--batch-size", 10, "--learning-rate", 0.1]
    losses = callbacks[0].losses
    best, seen = min(losses, key=losses.__getitem__), []
    for name, task, validation in (("own", pictures, tmp_path / "own.npz"), ("split", tmp_path / "split.npz", "validation")) * 2:
        code, out, err = run(capsys, "train", *flags, "--task", task, "--folder", tmp_path / name, "--early-stopping", validation)
        assert code == 0 and f"{len(direct.history)} steps" in out and len(direct.history) < 40, err
        assert dt.load_fine_tuned(tmp_path / name).model.fingerprint == direct.model.fingerprint
        seen.append(f"stopped early; lowest validation loss {losses[best]:.4f} at step {best}: its weights are the result" in out)
    assert seen == [True, True, False, False]  # a finished run has no checks to come


def test_photographs_are_cropped_to_what_the_model_draws_or_to_the_size_asked_for(capsys, model, tmp_path):
    """Of 30x20 pixels in class folders; the model draws 8x8."""
    rng = np.random.default_rng(0)
    for name in ("near", "far"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    common = ["--steps", 1, "--batch-size", 4, "--device", "cpu"]
    code, _, err = run(capsys, "train", "--model", model, "--task", tmp_path / "photos", "--folder", tmp_path / "run", *common)
    assert code == 0, err
    small = ["--width", 16, "--num-heads", 2, "--num-layers", 1, "--num-labels", 4]
    source = ["--source", tmp_path / "photos", "--autoencoder", model]
    code, _, err = run(capsys, "pretrain", *source, "--size", 16, "--folder", tmp_path / "own", *small, *common)
    assert code == 0, err
    assert dt.load_pretrained(tmp_path / "own" / "model").image_size == 16
    code, _, err = run(capsys, "pretrain", *source, "--size", "large", "--folder", tmp_path / "none", *small, *common)
    assert code == 2 and "size must be a whole number, got 'large'" in err and not (tmp_path / "none").exists()


def test_a_finished_folder_is_taken_up_unless_told_not_to(capsys, tuned, model, pictures):
    same = ["--folder", tuned, "--model", model, "--task", pictures, "--bank", tuned.parent / "bank", "--batch-size", 10]
    same += ["--learning-rate", 3e-4, "--no-ema-warmup", "--device", "cpu"]
    code, out, _ = run(capsys, "train", *same, "--steps", 3)
    assert code == 0 and "3 steps" in out
    code, _, err = run(capsys, "train", *same, "--steps", 3, "--no-resume")
    assert code == 2 and "already holds a run" in err


def test_a_bank_is_sampled_finished_and_repaired(capsys, model, tmp_path):
    options = ["--model", model, "--folder", tmp_path / "bank", "--device", "cpu"]
    sampling = ["--size", 6, "--steps", 2, "--shard-size", 4, "--sampler", "dpm++", "--guidance", 1, "--seed", 3]
    code, out, _ = run(capsys, "bank", *options, *sampling)
    bank = dt.MemoryBank.load(tmp_path / "bank")
    assert code == 0 and "6 samples" in out and len(bank) == 6
    recipe = bank.recipe
    assert (recipe.steps, recipe.sampler, recipe.guidance, recipe.seed, recipe.reencode) == (2, "dpm++", 1, 3, False)
    (tmp_path / "bank" / "shard-00001.safetensors").write_bytes(b"")
    code, _, err = run(capsys, "bank", *options, "--repair", "--size", 6)
    assert code == 2 and "--repair samples as the bank's own record says: leave --size out" in err
    code, out, _ = run(capsys, "bank", *options, "--repair")
    assert code == 0 and "shard-00001.safetensors sampled again" in out
    torch.testing.assert_close(dt.MemoryBank.load(tmp_path / "bank").latents, bank.latents, rtol=0, atol=0)


def test_samples_are_written_as_a_grid_and_as_a_task(capsys, model, tmp_path):
    out = tmp_path / "new" / "run-0.5"
    drawing = ["--labels", "cross", 0, "--count", 5, "--steps", 2, "--seed", 4, "--guide", model]
    code, printed, _ = run(capsys, "sample", "--model", model, *drawing, "--out", out)
    assert code == 0 and printed.split() == [f"{out}.png", f"{out}.npz"]
    written = dt.load_task(f"{out}.npz")
    assert written.labels.tolist() == [1, 0, 1, 0, 1]
    pretrained = dt.load_pretrained(model)
    expected = dt.sample(pretrained, [1, 0, 1, 0, 1], steps=2, seed=4, guide=pretrained)
    assert (written.images - expected).abs().max() <= 1 / 127.5
    grid = np.asarray(Image.open(f"{out}.png"))
    assert grid.shape == (12, 52, 3)  # five pictures of 8x8, 2 white pixels around each
    assert (grid[2:10, 12:20] == ((written.images[1] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).all()


def test_a_fine_tuned_folder_is_sampled_at_its_tasks_classes(capsys, tuned, tmp_path):
    code, _, _ = run(capsys, "sample", "--model", tuned, "--steps", 2, "--out", tmp_path / "all.png")
    assert code == 0 and dt.load_task(str(tmp_path / "all.npz")).labels.tolist() == [5, 6, 7]
    # a class called "3" is meant by its name, not as a row of the table
    code, _, _ = run(capsys, "sample", "--model", tuned, "--labels", 3, 2, "--steps", 2, "--out", tmp_path / "some")
    assert code == 0 and dt.load_task(str(tmp_path / "some.npz")).labels.tolist() == [6, 2]


def test_samples_replace_samples_and_never_a_set_of_ones_own(capsys, model, pictures, tmp_path):
    mine = shutil.copy(pictures, tmp_path / "mine.npz")
    before = mine.read_bytes()
    flags = ("sample", "--model", model, "--steps", 2, "--count", 1)
    code, _, err = run(capsys, *flags, "--out", tmp_path / "mine")
    assert code == 2 and "mine.npz is there and does not say that difftuning sampled it" in err and mine.read_bytes() == before
    assert not (tmp_path / "mine.png").exists()
    drawn = []
    for seed in (0, 1):
        assert run(capsys, *flags, "--out", tmp_path / "drawn", "--seed", seed)[0] == 0
        drawn.append([(tmp_path / f"drawn{suffix}").read_bytes() for suffix in (".npz", ".png")])
    assert all(first != second for first, second in zip(*drawn))


def test_a_picture_of_ones_own_beside_samples_is_not_replaced(capsys, model, tmp_path):
    flags = ("sample", "--model", model, "--steps", 2, "--count", 1, "--out", tmp_path / "s")
    assert run(capsys, *flags)[0] == 0
    Image.new("RGB", (4, 4)).save(tmp_path / "s.png")
    code, _, err = run(capsys, *flags)
    assert code == 2 and "s.png is there and does not say that difftuning sampled it" in err


def test_evaluate_prints_json(capsys, pictures, monkeypatch):
    monkeypatch.setattr("difftuning.evaluation.metrics._extractor", lambda name, device: lambda images: images.flatten(1)[:, :4])
    code, out, _ = run(capsys, "evaluate", "--images", pictures, "--reference", pictures)
    task = dt.load_task(str(pictures)), dt.load_task(str(pictures), split="test")
    assert code == 0 and json.loads(out) == dt.evaluate(task[0].images, task[1])


def test_pretraining_learns_a_set_of_ones_own(capsys, model, pictures, tmp_path):
    small = "--width 16 --num-heads 2 --num-layers 1 --num-labels 7 --steps 2 --batch-size 4 --device cpu".split()
    for autoencoder in (model, model / "vae"):
        folder = tmp_path / autoencoder.name
        given = ["--source", pictures, "--autoencoder", autoencoder, "--folder", folder, "--name", "mine"]
        code, _, err = run(capsys, "pretrain", *given, *small)
        assert code == 0, err
        made = dt.load_pretrained(folder / "model")
        assert (made.name, made.label_names, made.null_label) == ("mine", ["shoe", "3", "boot"], 7)


def test_a_bank_has_the_prompts_of_a_file_in_turn(capsys, text_model, tmp_path):
    (tmp_path / "prompts.txt").write_text("a small shoe\n\na bright boot\n")
    flags = ["--model", text_model, "--device", "cpu", "--folder", tmp_path / "bank", "--size", 5, "--steps", 2]
    code, _, err = run(capsys, "bank", *flags, "--prompts", tmp_path / "prompts.txt")
    assert code == 0 and dt.MemoryBank.load(tmp_path / "bank").prompts == ["a bright boot", "a small shoe"], err


def test_prompts_are_drawn(capsys, tmp_path):
    small_text_to_image().save(tmp_path / "base")
    flags = ["--model", tmp_path / "base", "--device", "cpu", "--out", tmp_path / "drawn", "--steps", 2]
    code, _, err = run(capsys, "sample", *flags, "--prompts", "a small shoe", "a boot", "--count", 3)
    assert code == 0 and dt.load_task(tmp_path / "drawn.npz").labels.tolist() == [0, 1, 0], err
    code, _, err = run(capsys, "sample", *flags)
    assert code == 2 and "give --prompts" in err


def test_studies_are_listed(capsys):
    code, out, _ = run(capsys, "study")
    assert code == 0 and "pilot: " in out
    code, _, err = run(capsys, "study", "nope")
    assert code == 2 and "unknown study 'nope'" in err


def test_a_study_runs_what_is_picked_of_it_and_what_the_table_lacks(capsys, tmp_path, monkeypatch):
    """With a copy of the shipped table: a finished run is left alone, and one whose row was taken out is done again."""
    rows = read_rows(data_folder() / "results" / "controlnet.csv")
    one = {"kind": "edge", "method": "plain", "seed": "0"}
    done = []
    monkeypatch.setattr(controlnet, "run_cell", lambda cell, *_: done.append(cell))
    flags = ["controlnet", "--results", tmp_path / "controlnet.csv", "--folder", tmp_path / "runs"]
    flags += ["--only", "method=plain", "seed=0", "--only", "kind=edge"]
    write_rows(tmp_path / "controlnet.csv", rows)
    code, out, err = run(capsys, "study", *flags)
    assert code == 0 and out.strip() == str(tmp_path / "controlnet.csv") and not done, err
    write_rows(tmp_path / "controlnet.csv", [row for row in rows if not one.items() <= row.items()])
    assert run(capsys, "study", *flags)[0] == 0 and done == [ControlCell("edge", "plain", 0)]
