"""A model, pictures and a run, as folders and files."""

from __future__ import annotations

import numpy as np
import pytest

import difftuning as dt
from difftuning import cli
from small import small_bank, small_pretrained, small_text_to_image


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Folder of a small random model."""
    folder = tmp_path_factory.mktemp("model") / "small"
    small_pretrained().save(folder)
    return folder


@pytest.fixture(scope="session")
def text_model(tmp_path_factory):
    """Folder of a small random text-to-image model; a bank of its pictures lies beside it."""
    folder = tmp_path_factory.mktemp("text")
    small_text_to_image().save(folder / "model")
    small_bank(small_text_to_image(), folder / "bank", size=6, labels=["a small shoe", "a bright boot"] * 3)
    return folder / "model"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """An npz file of 24 random pictures in three named classes, in two splits."""
    path, rng = tmp_path_factory.mktemp("task") / "shapes.npz", np.random.default_rng(0)
    arrays = {f"{split}_images": rng.integers(0, 256, (24, 8, 8), dtype=np.uint8) for split in ("train", "test")}
    arrays |= {f"{split}_labels": np.arange(24) % 3 for split in ("train", "test")}
    np.savez(path, class_names=np.array(["shoe", "3", "boot"]), **arrays)
    return path


@pytest.fixture(scope="session")
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
