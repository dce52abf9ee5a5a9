"""The command line does what the functions do, and answers mistakes in one line."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import difftuning as dt
from difftuning import cli
from difftuning.models.adapters.options import LoRA
from difftuning.training.regularizers import L2SP
from small import small_bank, small_pretrained, small_text_to_image


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a small random model."""
    folder = tmp_path_factory.mktemp("model") / "small"
    small_pretrained().save(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """An npz file of 24 random pictures in three named classes, in two splits."""
    path, rng = tmp_path_factory.mktemp("task") / "shapes.npz", np.random.default_rng(0)
    arrays = {f"{split}_images": rng.integers(0, 256, (24, 8, 8), dtype=np.uint8) for split in ("train", "test")}
    arrays |= {f"{split}_labels": np.arange(24) % 3 for split in ("train", "test")}
    np.savez(path, class_names=np.array(["shoe", "3", "boot"]), **arrays)
    return path


@pytest.fixture(scope="module")
def tuned(model, pictures, tmp_path_factory):
    """Folder of a two-step Diff-Tuning run, made by the command line."""
    folder = tmp_path_factory.mktemp("tuned")
    small_bank(dt.load_pretrained(model), folder / "bank")
    config = folder / "run.toml"
    config.write_text(f'''
model = "{model}"
task = "{pictures}"
bank = "{folder / "bank"}"
folder = "{folder / "ignored"}"
steps = 5
batch_size = 10
learning_rate = 1  # a whole number is a number
clip_norm = "none"
''')
    flags = ["--folder", str(folder / "run"), "--steps", "2", "--learning-rate", "3e-4", "--no-ema-warmup"]
    assert cli.main(["train", "--config", str(config), "--device", "cpu", *flags]) == 0
    assert not (folder / "ignored").exists()
    return folder / "run"


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


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


def test_photographs_are_cropped_to_what_the_model_draws_or_to_the_size_asked_for(capsys, model, tmp_path):
    """Of 30x20 pixels in class folders; the model draws 8x8."""
    from PIL import Image

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
    assert (bank.recipe.steps, bank.recipe.sampler, bank.recipe.guidance, bank.recipe.seed, bank.recipe.reencode) == (
        2,
        "dpm++",
        1,
        3,
        False,
    )
    (tmp_path / "bank" / "shard-00001.safetensors").write_bytes(b"")
    code, out, _ = run(capsys, "bank", *options, "--repair")
    assert code == 0 and "shard-00001.safetensors sampled again" in out
    torch.testing.assert_close(dt.MemoryBank.load(tmp_path / "bank").latents, bank.latents, rtol=0, atol=0)


def test_samples_are_written_as_a_grid_and_as_a_task(capsys, model, tmp_path):
    out = tmp_path / "new" / "run-0.5"
    code, printed, _ = run(
        capsys,
        "sample",
        "--model",
        model,
        "--labels",
        "cross",
        0,
        "--count",
        5,
        "--steps",
        2,
        "--seed",
        4,
        "--guide",
        model,
        "--out",
        out,
    )
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
    small = [
        "--width",
        16,
        "--num-heads",
        2,
        "--num-layers",
        1,
        "--num-labels",
        7,
        "--steps",
        2,
        "--batch-size",
        4,
        "--device",
        "cpu",
    ]
    for autoencoder in (model, model / "vae"):
        folder = tmp_path / autoencoder.name
        code, out, err = run(
            capsys, "pretrain", "--source", pictures, "--autoencoder", autoencoder, "--folder", folder, "--name", "mine", *small
        )
        assert code == 0, err
        made = dt.load_pretrained(folder / "model")
        assert (made.name, made.label_names, made.null_label) == ("mine", ["shoe", "3", "boot"], 7)


def test_a_controlnet_is_trained_with_its_bank_and_drawn_from(capsys, pictures, tmp_path):
    small_text_to_image().save(tmp_path / "base")
    (tmp_path / "prompts.txt").write_text("a small shoe\n\na bright boot\n")
    flags = ["--model", tmp_path / "base", "--device", "cpu"]
    code, out, err = run(
        capsys, "bank", *flags, "--folder", tmp_path / "bank", "--size", 5, "--steps", 2, "--prompts", tmp_path / "prompts.txt"
    )
    assert code == 0, err
    assert dt.MemoryBank.load(tmp_path / "bank").prompts == ["a bright boot", "a small shoe"]
    training = ["--task", pictures, "--bank", tmp_path / "bank", "--folder", tmp_path / "run", "--steps", 2, "--batch-size", 5]
    code, out, err = run(capsys, "train", "--control", "edge", *flags, *training)
    assert code == 0 and "2 steps, last target_loss" in out, err
    drawing = ["--model", tmp_path / "run", "--task", pictures, "--count", 3, "--steps", 2, "--out", tmp_path / "drawn"]
    code, out, err = run(capsys, "sample", "--control", "edge", *drawing, "--prompts", "a small shoe")
    assert code == 0 and len(out.split()) == 4, err
    assert dt.load_task(tmp_path / "drawn.npz").images.shape == dt.load_task(tmp_path / "drawn_conditions.npz").images.shape == (3, 3, 8, 8)


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


MISTAKES = {
    "": "required: command",
    "train": "--task is needed",
    "train --task digits --folder x": "--steps is needed",
    "train --task digits --folder {tmp}/x --steps many": "steps must be a whole number, got 'many'",
    "train --task digits --folder {tmp}/x --steps 2 --bank-share 2": "bank_share must be in [0, 1), got 2.0",
    "train --task digits --folder {tmp}/x --steps 2 --family cosine": "family must be one of",
    "train --task digits --folder {tmp}/x --stpes 2": "unrecognized arguments: --stpes",
    "train --task digits --folder {tmp}/x --steps 2 --adapter lorra": "unknown adapter 'lorra'",
    "train --task digits --folder {tmp}/x --steps 2 --adapter vpt --rank 8": "vpt has no option 'rank': it has tokens",
    "train --task digits --folder {tmp}/x --steps 2 --adapter lora --rank many": "rank must be a whole number, got 'many'",
    "train --task digits --folder {tmp}/x --steps 2 --adapter lora --rank 0": "rank must be positive, got 0",
    "train --task digits --folder {tmp}/x --steps 2 --rank 8": "--rank is an option of an adapter: give --adapter",
    "train --model {model} --task digits --folder {tmp}/x --steps 2 --regularizer ewcc": "unknown regularizer 'ewcc'",
    "train --task digits --folder {tmp}/x --steps 2 --regularizer-weight 3": "--regularizer-weight is of a regularizer: give --regularizer",
    "train --config {tmp}/absent.toml": "absent.toml",
    "train --config {tmp}/broken.toml": "broken.toml is no TOML file",
    "train --config {tmp}/unknown.toml": "unknown setting 'bank_wieght'; did you mean 'bank_weight'?",
    "train --config {tmp}/text.toml": "steps must be a whole number, got 2.5",
    "train --config {tmp}/flag.toml": "ema_warmup must be true or false, got 1",
    "sample --model {tmp}/nowhere": "no model",
    "sample --model {model} --labels shoe": "unknown label 'shoe'",
    "sample --model {model} --labels 99 --steps 2": "label 99 is outside",
    "sample --model {model} --count 0": "--count must be between 1 and 1,000,000, got 0",
    "sample --model {model} --control edge": "--control and --task go together",
    "sample --model {model} --control edge --task {tmp} --labels 3": "--control goes with --prompts",
    "sample --model {model} --control edge --task digits --count 0": "--count must be between 1 and 1,000,000, got 0",
    "train --control edge --task digits --folder {tmp}/x --steps 2 --model {model}": "a ControlNet needs a text-to-image base",
    "train --control edge --adapter lora --task digits --folder {tmp}/x --steps 2 --model {model}": "--control trains a ControlNet beside the model",
    "sample --model {model} --device warp": "device 'warp' is not there",
    "bank --folder {tmp}/bank --model {model}": "--size is needed",
    "sample --model {model} --device meta": "device 'meta' is not there",
    "sample --model {model} --steps 2.5": "argument --steps: invalid int value",
    "sample --model {model} --guidance nan": "guidance must be a finite number, got nan",
    "sample --model {model} --seed 99999999999999999999": "seed must fit into 64 bits",
    "pretrain --source {other} --autoencoder {model} --folder {tmp}/x --size 99999999999999999999": "size must fit into 64 bits",
    "pretrain --source {other} --autoencoder {model} --folder {tmp}/x --width 99999999999999999999": "width must fit into 64 bits",
    "sample --model large": "no model 'large'",
    "train --task mnist --folder {tmp}/x --steps 2 --model {model}": "no task, folder or npz file 'mnist'",
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
def test_a_mistake_is_answered_in_one_line(capsys, line, model, tuned, tmp_path):
    wide, other = tmp_path / "wide.npz", tmp_path / "other.npz"
    arrays = {f"{split}_images": np.zeros((8, 8, 10), dtype=np.uint8) for split in ("train", "test")}
    np.savez(wide, **arrays, **{name.replace("images", "labels"): np.arange(8) % 2 for name in arrays})
    np.savez(other, images=np.zeros((8, 10, 10), dtype=np.uint8), labels=np.arange(8) % 2)
    for name, text in {
        "broken": "steps = ", "unknown": "bank_wieght = 1", "text": 'steps = 2.5\ntask = "a"\nfolder = "b"',
        "flag": 'steps = 2\nema_warmup = 1\ntask = "a"\nfolder = "b"', "nested": "a = " + "[" * 10**5,
    }.items():  # fmt: skip
        (tmp_path / f"{name}.toml").write_text(text)
    code, out, err = run(capsys, *line.format(tmp=tmp_path, model=model, wide=wide, other=other, bank=tuned.parent / "bank").split())
    assert code == 2 and out == ""
    assert err.startswith("difftuning: ") and err.count("\n") == 1 and MISTAKES[line] in err


def test_a_damaged_file_is_named(capsys, model, pictures, tuned, tmp_path):
    bank = shutil.copytree(tuned.parent / "bank", tmp_path / "bank")
    (bank / "shard-00000.safetensors").write_bytes(b"cut")
    code, _, err = run(capsys, "train", "--model", model, "--task", pictures, "--bank", bank, "--folder", tmp_path / "run", "--steps", 2)
    assert code == 2 and "shard-00000.safetensors is missing, cut off or altered" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("can't allocate memory"),
        MemoryError("Unable to allocate"),
    ],
)
def test_too_little_memory_is_said_in_one_line(capsys, monkeypatch, error):
    def broken(given):
        raise error

    monkeypatch.setattr(cli, "_study", broken)
    code, _, err = run(capsys, "study")
    assert code == 2 and "out of memory: lower batch_size" in err and err.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(given):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "_study", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["study"])


def test_an_interruption_ends_quietly(capsys, monkeypatch):
    def interrupted(given):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_study", interrupted)
    code, _, err = run(capsys, "study")
    assert code == 130 and "interrupted" in err


@pytest.mark.parametrize(
    ("command", "function", "own"),
    [
        (["bank", "--folder", "f", "--size", "3", "--shard-size", "2", "--reencode"], dt.MemoryBank.sample, {"run", "model", "repair"}),
        (["sample", "--guide", "g", "--labels", "1", "--count", "2"], dt.sample, {"run", "count", "out"}),
    ],
)
def test_the_flags_of_bank_and_sample_are_parameters_of_the_functions(command, function, own):
    """Whatever the parser passes on, device aside, is a parameter by the same name."""
    sampling = ["--steps", "5", "--sampler", "ddim", "--guidance", "1.5", "--seed", "1", "--device", "cpu"]
    given = set(vars(cli._parser().parse_args([*command, *sampling]))) - own - {"device"}
    assert {"steps", "sampler", "guidance", "seed"} <= given <= set(inspect.signature(function).parameters)


def test_help_comes_at_once_and_imports_nothing_heavy():
    program = "import sys, difftuning.cli as cli\ntry: cli.main(['train', '--help'])\nexcept SystemExit: pass\n"
    program += "heavy = {'torch', 'numpy', 'diffusers', 'pandas'} & set(sys.modules)\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--bank-share" in done.stdout and "of the global batch, rounded down: 6 of 32" in " ".join(done.stdout.split())


def test_help_takes_less_than_half_a_second():
    """Of processor time, which other work on the machine does not stretch much; the best of three."""
    measured = "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'difftuning', '--help'], check=True)\n"
    measured += "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime, file=sys.stderr)"
    runs = [subprocess.run([sys.executable, "-c", measured], capture_output=True, text=True, check=True) for _ in range(3)]
    assert all("pretrain" in done.stdout for done in runs) and min(float(done.stderr) for done in runs) < 0.5


def test_pythons_arguments_are_said_as_this_commands_flags():
    usage = "usage: difftuning x [--size SIZE] [--split {train,test}] [--label-rows X] [--bank BANK] [--no-resume]"
    for message, said in {
        "give size= to crop": "give --size to crop",
        "give split='train'": "give --split train",
        "use label_rows='free'": "use --label-rows free",
        "or pass bank=None": "or pass no --bank",
        "resume=True goes on": "resume=True goes on",  # no flag of that name
        "runs/size=3/a is gone": "runs/size=3/a is gone",  # a path
        "set DIFFTUNING_DATA=x": "set DIFFTUNING_DATA=x",
    }.items():
        assert cli._with_flags(message, usage) == said


def test_python_m_difftuning_is_the_command():
    done = subprocess.run([sys.executable, "-m", "difftuning", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"difftuning {dt.__version__}\n"
    done = subprocess.run([sys.executable, "-m", "difftuning", "train"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("difftuning: --task is needed")


@pytest.mark.parametrize("out, said", [("", "names no file"), ("file/x", "file is a file"), ("taken", "taken.png is a folder")])
def test_where_samples_cannot_be_written_is_said_before_they_are_drawn(tmp_path, monkeypatch, capsys, out, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.png").mkdir()
    monkeypatch.setattr(cli, "_model", lambda *_: pytest.fail("went to work"))
    code, _, error = run(capsys, "sample", "--out", out)
    assert code == 2 and said in error
