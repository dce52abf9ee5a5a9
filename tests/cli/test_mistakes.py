"""Mistakes are answered in one line, bugs keep their traceback."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from difftuning import cli
from difftuning.cli import commands
from tests.cli.helpers import run

MISTAKES = {
    "": "required: command",
    "train": "--task is needed",
    "train --task digits --folder x": "--steps is needed",
    "train --task digits --folder {tmp}/x --steps many": "steps must be a whole number, got 'many'",
    "train --task digits --folder {tmp}/x --steps 2 --bank-share 2": "--bank-share must be at least 0 and less than 1, got 2.0",
    "train --task digits --folder {tmp}/x --steps 2 --family cosine": "unknown family 'cosine'",
    "train --task digits --folder {tmp}/x --stpes 2": "unrecognized arguments: --stpes",
    "train --task digits --folder {tmp}/x --steps 2 --adapter lorra": "unknown adapter 'lorra'",
    "train --task digits --folder {tmp}/x --steps 2 --adapter vpt --rank 8": "vpt has no option 'rank': it has tokens",
    "train --task digits --folder {tmp}/x --steps 2 --adapter lora --rank many": "rank must be a whole number, got 'many'",
    "train --task digits --folder {tmp}/x --steps 2 --adapter lora --rank 0": "--adapter: rank must be at least 1, got 0",
    "train --task digits --folder {tmp}/x --steps 2 --rank 8": "--rank is an option of --adapter: give both",
    "train --model {model} --task digits --folder {tmp}/x --steps 2 --regularizer ewcc": "unknown regularizer 'ewcc'",
    "train --task digits --folder {tmp}/x --steps 2 --regularizer-weight 3": "--regularizer-weight is an option of --regularizer: give both",
    "train --task digits --folder {tmp}/x --steps 2 --regularizer l2_sp --regularizer-samples 3": "l2_sp has no option 'samples': it has weight",
    "train --task digits --folder {tmp}/x --steps 2 --regularizer distillation --regularizer-on source": "choose one of auto, bank, target",
    "train --task digits --folder {tmp}/x --steps 2 --regularizer ewc --regularizer-samples 0": "samples must be at least 1, got 0",
    "train --task digits --folder {tmp}/x --steps 2 --early-stopping-patience 3": "--early-stopping-patience is an option of --early-stopping: give both",
    "train --task digits --folder {tmp}/x --steps 2 --early-stopping validation --control edge": "--early-stopping scores a model told labels",
    "train --model {model} --task {other} --folder {tmp}/x --steps 100 --early-stopping validation": "other.npz has no validation pictures: give --early-stopping a folder or npz file of others",
    "train --model {model} --task {other} --folder {tmp}/x --steps 100 --early-stopping digits": "the validation pictures, digits, must have the classes of other: only one has '2'",
    "train --model {model} --task {other} --folder {tmp}/x --steps 2 --early-stopping {wide}": "a check every 100 steps never comes in 2: check sooner, or train longer",
    "train --model {model} --task {other} --folder {tmp}/x --steps 100 --early-stopping {wide} --early-stopping-patience 0": "patience must be at least 1, got 0",
    "train --config {tmp}/absent.toml": "absent.toml",
    "train --config {tmp}/broken.toml": "broken.toml is no TOML file",
    "train --config {tmp}/unknown.toml": "unknown setting 'bank_wieght'; did you mean 'bank_weight'?",
    "train --config {tmp}/text.toml": "steps must be a whole number, got 2.5",
    "train --config {tmp}/flag.toml": "--ema-warmup must be true or false, got 1",
    "sample --model {tmp}/nowhere": "no model",
    "sample --model {model} --labels shoe": "unknown label 'shoe': this model's",
    "sample --model {model} --labels 3 --prompts x": "--prompts and --labels both say what to draw: give one of them",
    "sample --model {model} --prompts x": "is told what to draw by labels, not by prompts: give --labels",
    "sample --model {text} --labels 3 --prompts x": "--prompts and --labels both say what to draw: give one of them",
    "sample --model {model} --labels 99 --steps 2": "label 99 is outside",
    "sample --model {model} --guidance 1 --guide {model}": "--guidance 1 is none: a --guide has no part in it",
    "evaluate --images {tmp}/one.png --reference digits": "one.png is one picture: give a folder whose sub-folders are the classes, or an npz file",
    "train --model {model} --task {other} --folder {tmp}/x --steps 2 --adapter lora --rank 999": "--rank 999 is above the smallest side, ",
    "train --model {model} --task {other} --folder {tmp}/x --steps 2 --family threshold": "--reconsolidation-power 1 gives reconsolidation no weight anywhere in --family threshold: choose one above 0 and below 1",
    "sample --model {model} --count 0": "--count must be between 1 and 1,000,000, got 0",
    "sample --model {model} --control edge": "--control and --task go together",
    "sample --model {model} --control edge --task {tmp} --labels 3": "--control goes with --prompts",
    "sample --model {model} --control edge --task digits --count 0": "--count must be between 1 and 1,000,000, got 0",
    "sample --model {model} --control canny --task digits": "unknown condition 'canny': choose one of edge, sketch",
    "sample --model {model} --called shoe --prompts x": "--called goes with --control and --task",
    "train --called shoe --task digits --folder {tmp}/x --steps 2 --model {model}": "--called is an option of a ControlNet: give --control",
    "train --bank-control blank --task digits --folder {tmp}/x --steps 2": "--bank-control is an option of a ControlNet: give --control",
    "train --control edge --bank-control blank --task digits --folder {tmp}/x --steps 2": "--bank-control is of a bank's pictures: give --bank",
    "train --control edge --channels 16,many --task digits --folder {tmp}/x --steps 2": "channels must be a whole number, got 'many'",
    "train --control edge --captions mine --task digits --folder {tmp}/x --steps 2": "unknown captions 'mine': choose one of measured, names",
    "train --control edge --captions names --called shoe --task digits --folder {tmp}/x --steps 2": "--called gives measured captions another name",
    "train --control edge --annotator {tmp} --task {other} --folder {tmp}/x --steps 2 --model {text}": "no annotator '{tmp}' for edge: models are for",
    "train --control depth --annotator {tmp} --task {other} --folder {tmp}/x --steps 2 --model {text}": "no annotator '{tmp}' for depth-estimation",
    "train --control edge --bank-control grey --bank {textbank} --task {other} --folder {tmp}/x --steps 2 --model {text}": "--bank-control must be 'own' or 'blank'",
    "train --control edge --channels 16,0 --task {other} --folder {tmp}/x --steps 2 --model {text}": "channels must be at least 1, got 0",
    "train --control edge --channels 16,32,96 --task {other} --folder {tmp}/x --steps 2 --model {text}": "it needs 2 embedding channels, not 3",
    "sample --model {model} --annotator x --prompts x": "--annotator goes with --control and --task",
    "sample --model {model} --control edge --task digits --captions names --prompts x": "--prompts takes the captions' place",
    "sample --model {model} --control edge --task digits --annotator x --count 1": "no annotator 'x' for edge: models are for",
    "sample --model {model} --control edge --task digits --count 1 --controlnet {tmp}": "a ControlNet needs a text-to-image base",
    "sample --model {model} --control edge --task digits --count 1": "has no ControlNet: train one with",
    "train --control edge --task digits --folder {tmp}/x --steps 2 --model {model}": "a ControlNet needs a text-to-image base",
    "train --control edge --adapter lora --task digits --folder {tmp}/x --steps 2 --model {model}": "--control trains a ControlNet beside the model",
    "sample --model {model} --device warp": "device 'warp' is not there",
    "bank --folder {tmp}/bank --model {model}": "--size is needed",
    "study --only seed=0": "--only picks runs of one study: put its NAME before it",
    "study controlnet --only sed=0": "unknown column 'sed': choose one of kind, method, seed",
    "study controlnet --only method=magic": "unknown method 'magic': choose one of plain, Diff-Tuning",
    "sample --model {model} --device meta": "device 'meta' is not there",
    "sample --model {model} --steps 2.5": "argument --steps: invalid int value",
    "sample --model {model} --guidance nan": "guidance must be a finite number, got nan",
    "sample --model {model} --seed 99999999999999999999": "seed must fit into 64 bits",
    "pretrain --source {other} --autoencoder {model} --folder {tmp}/x --size 99999999999999999999": "size must fit into 64 bits",
    "pretrain --source {other} --autoencoder {model} --folder {tmp}/x --width 99999999999999999999": "width must fit into 64 bits",
    "sample --model large": "no model 'large'",
    "train --task digits --folder {tmp}/x --steps 2 --regularizer l2_sp --regularizer-weight -1": "--regularizer: weight must be more than 0",
    "train --task {other} --folder {tmp}/x --steps 2 --model {model} --early-stopping {other}": "the validation pictures are the training pictures",
    "train --task {other} --folder {tmp}/x --steps 2 --model {model} --bank-share 0 --bank {bank}": "holds no bank picture: raise the share, or pass no --bank",
    "train --task {other} --folder {tmp}/x --steps 2 --model {model} --bank {bank} --regularizer prior_preservation --bank-weight 0.7": (
        "prior_preservation takes --bank-weight 1.0, not 0.7: leave that out"
    ),
    "train --task {other} --folder {tmp}/x --steps 2 --model {text}": "is a text-to-image model, which learns by a ControlNet: give --control",
    "train --task mnist --folder {tmp}/x --steps 2 --model {model}": "no task, folder or npz file 'mnist'",
    "sample --model {model} --adapter {tmp}": "no adapter in",
    "merge {model}": "required: --out",
    "merge {model} --out {tmp}/x": "the model has no adapter to merge",
    "merge {model} --out {model}": "is not empty and holds something else; choose another folder",
    "evaluate --images {wide} --reference {wide}": "not square; give --size to crop them",
    "evaluate --images {other} --reference {other}": "has no split 'test': the only split is 'train'; give --split train",
    "evaluate --images {other} --reference {wide} --size 8 --split validation": "give one of them as --split",
    "evaluate --images {other} --reference {other} --split train": "load them with --size 32 or evaluate in another feature space (--features)",
    "pretrain --source {other} --autoencoder {model} --folder {tmp}/x --steps 2": "load them with --size 8",
    "train --task {other} --folder {tmp}/x --steps 2 --model {model} --bank-share 0.01 --bank {bank}": "or pass no --bank",
    "train --task {other} --folder {tmp}/x --steps 2 --model {model} --mixed-precision fp16 --device cpu": "--mixed-precision fp16 needs a GPU",
    "train --config {tmp}/nested.toml": "nested.toml is no TOML file",
    "evaluate --images {tmp}/absent.npz --reference digits": "absent.npz",
    "evaluate --images digits --reference digits --device warp": "device 'warp' is not there",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_in_one_line(capsys, line, model, text_model, tuned, tmp_path):
    wide, other = tmp_path / "wide.npz", tmp_path / "other.npz"
    arrays = {f"{split}_images": np.zeros((8, 8, 10), dtype=np.uint8) for split in ("train", "test")}
    np.savez(wide, **arrays, **{name.replace("images", "labels"): np.arange(8) % 2 for name in arrays})
    np.savez(other, images=np.zeros((8, 10, 10), dtype=np.uint8), labels=np.arange(8) % 2)
    for name, text in {
        "broken": "steps = ", "unknown": "bank_wieght = 1", "text": 'steps = 2.5\ntask = "a"\nfolder = "b"',
        "flag": 'steps = 2\nema_warmup = 1\ntask = "a"\nfolder = "b"', "nested": "a = " + "[" * 10**5,
    }.items():  # fmt: skip
        (tmp_path / f"{name}.toml").write_text(text)
    (tmp_path / "one.png").touch()
    places = {"tmp": tmp_path, "model": model, "text": text_model, "wide": wide, "other": other, "bank": tuned.parent / "bank"}
    code, out, err = run(capsys, *line.format(**places, textbank=text_model.parent / "bank").split())
    assert code == 2 and out == ""
    assert err.startswith("difftuning: ") and err.count("\n") == 1 and MISTAKES[line].format(**places) in err


def test_a_damaged_file_is_named(capsys, model, pictures, tuned, tmp_path):
    bank = shutil.copytree(tuned.parent / "bank", tmp_path / "bank")
    (bank / "shard-00000.safetensors").write_bytes(b"cut")
    code, _, err = run(capsys, "train", "--model", model, "--task", pictures, "--bank", bank, "--folder", tmp_path / "run", "--steps", 2)
    assert code == 2 and "shard-00000.safetensors is missing, cut off or altered" in err and err.count("\n") == 1


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), RuntimeError("can't allocate memory"), MemoryError("Unable"),
])  # fmt: skip
def test_too_little_memory_is_said_in_one_line(capsys, monkeypatch, error):
    def broken(given):
        raise error

    monkeypatch.setattr(commands, "study", broken)
    code, _, err = run(capsys, "study")
    assert code == 2 and "out of memory: lower batch_size" in err and err.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(given):
        raise RuntimeError("a bug")

    monkeypatch.setattr(commands, "study", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["study"])


def test_an_interruption_ends_quietly(capsys, monkeypatch):
    def interrupted(given):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "study", interrupted)
    code, _, err = run(capsys, "study")
    assert code == 130 and "interrupted" in err


def test_pythons_arguments_are_said_as_this_commands_flags():
    usage = "usage: difftuning x [--size SIZE] [--split {train,test}] [--label-rows X] [--bank BANK] [--no-resume] [--rank N]"
    for message, said in {
        "give size= to crop": "give --size to crop",
        "give split='train'": "give --split train",
        "use label_rows='free'": "use --label-rows free",
        "or pass bank=None": "or pass no --bank",
        "resume=True goes on": "the same without --no-resume goes on",
        "seed=3 is another": "seed=3 is another",  # no flag of that name
        "label_rows was 'free', is 'first'": "--label-rows was 'free', is 'first'",
        "bank_share is none": "bank_share is none",
        "adapter was LoRA(rank=4, alpha=8), rank=4": "adapter was LoRA(rank=4, alpha=8), --rank 4",
        "unknown 'label_row', did you mean 'label_rows'?": "unknown 'label_row', did you mean 'label_rows'?",  # in a file
        "runs/size=3/a is gone": "runs/size=3/a is gone",  # a path
        "set DIFFTUNING_DATA=x": "set DIFFTUNING_DATA=x",
    }.items():
        assert cli.with_flags(message, usage) == said
    taken = "label_rows already holds a run: the same without --no-resume continues it"
    assert cli.with_flags("label_rows already holds a run: resume=True continues it", usage, ["--folder", "label_rows"]) == taken
    assert cli.with_flags(r"no folder C:\runs\label_rows", usage) == r"no folder C:\runs\label_rows"


@pytest.mark.parametrize("out, said", [("", "has an empty name"), ("file/x", "file is a file"), ("taken", "taken.png is there")])
def test_where_samples_cannot_be_written_is_said_before_they_are_drawn(tmp_path, monkeypatch, capsys, out, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.png").mkdir()
    monkeypatch.setattr(commands, "_model", lambda *_: pytest.fail("went to work"))
    code, _, error = run(capsys, "sample", "--out", out)
    assert code == 2 and said in error
