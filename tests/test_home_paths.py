"""`~` is the home folder in every path that a user gives, and nothing is ever put into a folder of that name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import difftuning as dt
from difftuning import cli
from difftuning.config import PretrainingConfig
from difftuning.data.latents import encode_latents
from difftuning.data.pictures import picture_files
from difftuning.evaluation.feature_net import FeatureNet, load_feature_net
from difftuning.studies.gains import read_table
from difftuning.studies.runner import run_study
from difftuning.support.files import save_tensors, write_json
from difftuning.support.names import cache_folder
from difftuning.support.world import data_folder, world_version
from difftuning.training.memory_bank import repair_bank
from difftuning.training.pretrain import pretrain
from small import small_bank, small_pretrained, small_task


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home folder, seen from elsewhere."""
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield tmp_path / "home"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_models_banks_and_runs(home):
    small_pretrained().save("~/model")
    pretrained = dt.load_pretrained("~/model")
    bank = small_bank(pretrained, "~/bank", size=4)
    assert repair_bank("~/bank", pretrained) == [] and len(dt.MemoryBank.load("~/bank")) == 4
    tuned = dt.fine_tune(pretrained, small_task(), bank, dt.DiffTuningConfig(steps=1), folder="~/run", progress=False)
    tuned.save("~/copy")
    assert dt.load_fine_tuned("~/copy").model.fingerprint == dt.load_fine_tuned("~/run").model.fingerprint
    options = PretrainingConfig(steps=1, width=16, num_heads=2, num_layers=1, num_labels=4, batch_size=4)
    pretrain(small_task(), pretrained.autoencoder, options, folder="~/own", progress=False)
    assert sorted(path.name for path in home.iterdir()) == ["bank", "copy", "model", "own", "run"]


def test_tasks_pictures_and_caches(home, monkeypatch):
    for name in ("near", "far"):
        (home / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(home / "photos" / name / "0.png")
    np.savez(home / "set.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.array([0, 1]))
    assert len(dt.load_task("~/photos", size=8)) == len(dt.load_task("~/set.npz")) == len(dt.load_task(Path("~/set.npz"))) == 2
    assert picture_files("~/out/drawn") == (home / "out" / "drawn.png", home / "out" / "drawn.npz")
    encode_latents(small_pretrained(), small_task(), cache="~/cache", progress=False)
    assert len(list((home / "cache" / "latents").iterdir())) == 1
    monkeypatch.setenv("DIFFTUNING_CACHE", "~/kept")
    assert cache_folder() == home / "kept"
    monkeypatch.delenv("DIFFTUNING_CACHE")
    assert cache_folder() == home / ".cache" / "difftuning"


def test_the_tiny_world_feature_nets_and_results(home, monkeypatch):
    net = FeatureNet(3, image_size=8)
    write_json(home / "net" / "config.json", net.config)
    save_tensors(home / "net" / "model.safetensors", net.state_dict())
    assert load_feature_net("~/net").image_size == 8
    (home / "results").mkdir()
    (home / "results" / "mine.csv").write_text(f"a,world\n1,{world_version()}\n", encoding="utf-8")
    assert read_table("mine", "~/results").a.tolist() == [1]
    assert run_study([], folder="~/study", results="~/study/none.csv") == home / "study" / "none.csv"
    (home / "world").mkdir()
    shutil.copy(data_folder() / "SHA256SUMS", home / "world" / "SHA256SUMS")
    monkeypatch.setenv("DIFFTUNING_DATA", "~/world")
    assert data_folder() == home / "world"


def test_the_command_line_and_its_file(home, capsys):
    small_pretrained().save(home / "model")
    np.savez(home / "set.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.array([0, 1, 0, 1]))
    (home / "run.toml").write_text(
        'task = "~/set.npz"\nmodel = "~/model"\nfolder = "~/run"\nbank = "~/bank"\nsteps = 1\n', encoding="utf-8"
    )
    common = ["--device", "cpu"]
    for line in (
        ["bank", "--model", "~/model", "--folder", "~/bank", "--size", "2", "--steps", "2"],
        ["train", "--config", "~/run.toml", "--batch-size", "5"],
        ["sample", "--model", "~/run", "--guide", "~/model", "--steps", "2", "--out", "~/drawn"],
        ["pretrain", "--source", "~/set.npz", "--autoencoder", "~/model/vae", "--folder", "~/own", "--steps", "1", "--batch-size", "4",
         "--width", "16", "--num-heads", "2", "--num-layers", "1", "--num-labels", "4"],
    ):  # fmt: skip
        assert cli.main([*line, *common]) == 0, capsys.readouterr().err
    assert (home / "drawn.png").is_file() and (home / "own" / "model").is_dir() and (home / "run" / "result.json").is_file()
