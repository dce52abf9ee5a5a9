"""`make gpu` in toy sizes, for real: a process for each stage, their rows, and weights that draw pictures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
import torch

import difftuning as dt
from paper_scale import dit_xl, gpu, pretraining, speed
from paper_scale.measurements import FAILED, Table, markdown, read_rows
from paper_scale.speed import Clock, progress_rate

ROOT = Path(__file__).resolve().parents[2]
METHODS = [f"{method}, {precision}" for method in ("Diff-Tuning", "plain fine-tuning") for precision in ("float32", "bf16 autocast")]
EXPECTED = {
    "installation": ["torch", "diffusers", "largest difference of a loss from the CPU's, precision 'bf16'", "whole stage"],
    "pretraining": ["chosen", "steps", "pictures seen", *(f"held-out loss, tenth {number}" for number in range(1, 11)), "whole stage"],
    "dit_xl": [*METHODS, "a Diff-Tuning step / a plain step, float32", "whole stage"],
}


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The folder of one whole toy run."""
    folder = tmp_path_factory.mktemp("gpu")
    environment = os.environ | {"OUT": str(folder), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "paper_scale.gpu", "--toy"], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "# Measurements on CPU" in done.stdout
    return folder


def found(rows: list[dict[str, str]], stage: str) -> list[str]:
    return [row["what"] for row in rows if row["stage"] == stage]


@pytest.mark.slow
def test_each_stage_writes_its_rows_with_the_devices_name(out):
    rows = read_rows(out / "gpu.csv")
    assert list(dict.fromkeys(row["stage"] for row in rows)) == list(gpu.LIMITS)
    for stage, expected in EXPECTED.items():
        assert set(expected) <= set(found(rows, stage))
        assert FAILED not in found(rows, stage)
    assert {row["device"] for row in rows} == {"CPU"}
    assert (out / "gpu.md").read_text(encoding="utf-8") == markdown(rows)


@pytest.mark.slow
def test_the_weights_load_as_a_model_that_draws(out, tmp_path):
    with tarfile.open(out / "model.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    model = dt.load_pretrained(tmp_path / "tiny")
    images = dt.sample(model, [0, model.null_label], steps=2)
    assert images.shape == (2, 3, 32, 32) and torch.isfinite(images).all()
    assert (tmp_path / "tiny_card.json").is_file() and (out / "samples.png").is_file()


@pytest.mark.slow
def test_the_loss_of_every_step_is_kept(out):
    history = pandas.read_csv(out / "pretraining_loss.csv")
    (steps,) = [int(row["value"]) for row in read_rows(out / "gpu.csv") if row["what"] == "steps"]
    assert history["step"].tolist() == list(range(1, steps + 1)) and history["source_loss"].between(0, 10).all()
    assert history["seconds"].is_monotonic_increasing


def test_a_stage_that_fails_says_why_and_the_next_one_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(gpu, "LIMITS", {"no_such_stage": 60, "installation": 0.1})
    monkeypatch.setenv("OUT", str(tmp_path))
    assert gpu.main(["--toy"]) == 1
    failures = {row["stage"]: row["value"] for row in read_rows(tmp_path / "gpu.csv") if row["what"] == FAILED}
    assert "ModuleNotFoundError" in failures["no_such_stage"]
    assert failures["installation"] == "not done after 0.1 s, and ended"
    assert "ModuleNotFoundError" in capfd.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_card_the_message_names_the_toy_mode(tmp_path):
    assert gpu.run_stage("installation", tmp_path, toy=False) == gpu.REPORTED
    (row,) = read_rows(tmp_path / "gpu.csv")
    assert row["what"] == FAILED and "GPU_FLAGS=--toy" in row["value"]


def test_the_cool_down_ends_with_the_time_box():
    sizes = replace(pretraining.FULL, reserve=0)
    config = pretraining.planned(sizes, 2048, seconds=0.01, left=100)
    assert config.batch_size == 2048 and config.steps == pytest.approx(100 / 0.01, rel=0.05) and config.steps * 0.01 < 100
    assert config.learning_rate_at(config.steps - 1) < 0.01 * config.learning_rate
    assert config.learning_rate_at(config.steps // 2) == config.learning_rate


def test_training_past_its_time_keeps_what_it_has_learned(tmp_path):
    sizes = pretraining.TOY
    watch, table = pretraining.Watch(Clock(-1)), Table(tmp_path / "gpu.csv", "pretraining", "CPU")
    source, _ = pretraining.source_sets(sizes)
    model = pretraining.untrained(source, dt.load_pretrained("tiny").autoencoder, sizes.config, name="tiny")
    stream = pretraining.pretraining_stream(model, source, replace(sizes.config, batch_size=4))
    config = replace(sizes.config, batch_size=4, steps=5)
    assert pretraining.pretrain_watched(model, stream, config, watch, table) is None
    assert watch.state.step == 1 and len(watch.losses) == 1
    assert "ended early" in found(read_rows(tmp_path / "gpu.csv"), "pretraining")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms on this system")
def test_a_compiler_that_takes_too_long_is_left(tmp_path, monkeypatch):
    def compile_blocks(denoiser, backend):
        denoiser.register_forward_pre_hook(lambda *_: time.sleep(30))

    monkeypatch.setattr(speed, "COMPILE_SECONDS", 0.3)
    monkeypatch.setattr(speed, "compile_blocks", compile_blocks)
    sizes, table = pretraining.TOY, Table(tmp_path / "gpu.csv", "pretraining", "CPU")
    source, _ = pretraining.source_sets(sizes)
    model = pretraining.untrained(source, dt.load_pretrained("tiny").autoencoder, sizes.config, name="tiny")
    before = model.fingerprint
    stream = pretraining.pretraining_stream(model, source, sizes.config)
    options = {"batches": (4,), "compiled_batch": 4, "steps": 4, "backend": "eager", "table": table}
    batch, _ = speed.choose_speed(model, stream, sizes.config, **options)
    assert batch == 4 and model.fingerprint == before
    values = {row["what"]: row["value"] for row in read_rows(tmp_path / "gpu.csv")}
    assert "TimeoutError" in values["blocks compiled"] and values["chosen"] == "a batch of 4, blocks as they are"


def test_more_steps_and_larger_batches_both_count():
    assert progress_rate(1024, 0.01) > progress_rate(1024, 0.02)
    assert progress_rate(2048, 0.011) > progress_rate(1024, 0.01) > progress_rate(2048, 0.02)


def test_the_model_at_paper_scale_is_dit_xl_2():
    """Its parameters are counted without memory for them."""
    from difftuning.models.dit import build_dit

    sizes = dit_xl.FULL
    with torch.device("meta"):
        dit = build_dit(width=sizes.width, num_heads=sizes.num_heads, num_layers=sizes.num_layers, latent_shape=(4, sizes.side, sizes.side))
    # facebookresearch/DiT has 675,129,632: the difference is its table of positions, a constant that counts as a parameter there.
    assert sum(weight.numel() for weight in dit.parameters()) == 675_129_632 - 256 * 1152
