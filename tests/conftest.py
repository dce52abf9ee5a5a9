"""Fixtures that every test file shares; no file of the tiny world is read here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

os.environ["DIFFTUNING_PROGRESS"] = "off"
if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is loaded: the threads of several processes would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell script starts what it puts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch

from difftuning.models.pretrained import Pretrained
from tests.notebooks.executed import ExecutedLessons


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For several processes: a file's tests stay together, so do those of an executed lesson; the lessons, which take longest, come first."""
    for item in items:
        group = str(item.path)
        if "executed_lessons" in item.fixturenames:
            group = str(item.callspec.params["path"])
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: "executed_lessons" not in item.fixturenames)


@pytest.fixture(autouse=True)
def bars_where_output_is_looked_at(request, monkeypatch) -> None:
    """No progress bars, except in a test that captures what is printed."""
    if {"capfd", "capsys"} & set(request.fixturenames):
        monkeypatch.delenv("DIFFTUNING_PROGRESS", raising=False)


@pytest.fixture(scope="session")
def executed_lessons(tmp_path_factory) -> ExecutedLessons:
    """Lessons run once, whichever tests look at them."""
    return ExecutedLessons(tmp_path_factory.mktemp("executed"))


@pytest.fixture(scope="session")
def dead_process() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def make_model(seed: int = 0) -> Pretrained:
    """A model of random weights for 32x32 pictures: five names, 1000 label rows, null row 1000 as stock `DiTPipeline` has it."""
    from diffusers import AutoencoderKL, DDIMScheduler

    from difftuning.models.dit import build_dit

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = build_dit(width=32, num_heads=2, num_layers=2, latent_shape=(4, 8, 8), num_labels=1000)
        with torch.no_grad():
            for weight in denoiser.parameters():  # far from adaLN-zero: timestep and label change the output
                weight.add_(0.2 * torch.randn_like(weight))
        autoencoder = AutoencoderKL(
            block_out_channels=(8, 8, 8), down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
            layers_per_block=1, norm_num_groups=4, latent_channels=4, mid_block_add_attention=False, sample_size=32,
            scaling_factor=0.5,
        )  # fmt: skip
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
    return Pretrained(denoiser, autoencoder, scheduler, label_names=["ring", "cross", "bar", "dot", "hook"], name="small")


# Nets this small gain nothing from a second thread, and the processes that some tests fork cannot use a pool of threads.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_model() -> Pretrained:
    """Shared by the whole session: copy its denoiser before changing it."""
    return make_model(seed=0)


@pytest.fixture(scope="session")
def other_model(small_model) -> Pretrained:
    """Another denoiser behind the same autoencoder, as after fine-tuning."""
    return small_model.with_denoiser(make_model(seed=1).denoiser, name="other")
