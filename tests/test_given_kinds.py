"""A name, a path, a dict or a tuned result in the place of a model, task, bank or configuration: one line says what to pass."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import difftuning as dt
from difftuning.config import PretrainingConfig
from difftuning.training.fine_tuned import FineTuned
from difftuning.training.memory_bank import repair_bank
from difftuning.training.pretrain import pretrain
from small import small_bank, small_pretrained, small_task


@pytest.fixture(scope="module")
def model():
    return small_pretrained()


@pytest.fixture(scope="module")
def task():
    return small_task()


@pytest.fixture(scope="module")
def bank(model, tmp_path_factory):
    return small_bank(model, tmp_path_factory.mktemp("bank") / "bank")


CONFIG = dt.DiffTuningConfig(steps=1)
CALLS = [
    (lambda w: dt.fine_tune("tiny", w.task, folder=w.folder), "pretrained must be a Pretrained, not 'tiny': pass load_pretrained('tiny')"),
    (lambda w: dt.fine_tune(w.tuned, w.task, folder=w.folder), "pretrained must be a Pretrained, not FineTuned: pass its .model"),
    (lambda w: dt.fine_tune(w.task, w.model, folder=w.folder), "pretrained must be a Pretrained, not Task: pass what load_pretrained returns"),
    (lambda w: dt.fine_tune(w.model, "digits", folder=w.folder), "task must be a Task, not 'digits': pass load_task('digits')"),
    (lambda w: dt.fine_tune(w.model, w.task, "runs/bank", folder=w.folder), "bank must be a MemoryBank, not 'runs/bank': pass MemoryBank.load('runs/bank')"),
    (lambda w: dt.fine_tune(w.model, w.task, CONFIG, folder=w.folder), "bank must be a MemoryBank, not DiffTuningConfig: pass what MemoryBank.load returns"),
    (lambda w: dt.fine_tune(w.model, w.task, w.bank, {"steps": 1}, folder=w.folder), "config must be a DiffTuningConfig, not dict: pass DiffTuningConfig(**config)"),
    (lambda w: dt.fine_tune(w.model, w.task, w.bank, {}, folder=w.folder), "config must be a DiffTuningConfig, not dict: pass DiffTuningConfig(**config)"),
    (lambda w: dt.fine_tune(w.model, w.task, w.bank, PretrainingConfig(), folder=w.folder), "config must be a DiffTuningConfig, not PretrainingConfig"),
    (lambda w: dt.EarlyStopping("tiny", w.task, CONFIG), "pretrained must be a Pretrained, not 'tiny': pass load_pretrained('tiny')"),
    (lambda w: dt.EarlyStopping(w.model, "digits", CONFIG), "validation must be a Task, not 'digits': pass load_task('digits')"),
    (lambda w: dt.EarlyStopping(w.model, w.task, {"steps": 1}), "config must be a DiffTuningConfig, not dict: pass DiffTuningConfig(**config)"),
    (lambda w: pretrain("digits", w.model.autoencoder, PretrainingConfig(), folder=w.folder), "source must be a Task, not 'digits': pass load_task('digits')"),
    (lambda w: pretrain(w.task, w.model, PretrainingConfig(), folder=w.folder), "autoencoder must be an AutoencoderKL, not Pretrained: pass its .autoencoder"),
    (lambda w: pretrain(w.task, w.model.autoencoder, {"steps": 1}, folder=w.folder), "config must be a PretrainingConfig, not dict: pass PretrainingConfig(**config)"),
    (lambda w: dt.MemoryBank.sample("tiny", 3, folder=w.folder), "pretrained must be a Pretrained, not 'tiny': pass load_pretrained('tiny')"),
    (lambda w: w.bank.images(w.tuned), "pretrained must be a Pretrained, not FineTuned: pass its .model"),
    (lambda w: w.bank.repair("tiny"), "pretrained must be a Pretrained, not 'tiny'"),
    (lambda w: repair_bank(w.bank.folder, w.tuned), "pretrained must be a Pretrained, not FineTuned: pass its .model"),
    (lambda w: dt.sample("tiny", [0]), "model must be a Pretrained, not 'tiny': pass load_pretrained('tiny')"),
    (lambda w: dt.sample(w.tuned, [0]), "model must be a Pretrained, not FineTuned: pass its .model"),
    (lambda w: dt.sample(w.model, [0], guide="tiny"), "guide must be a Pretrained, not 'tiny': pass load_pretrained('tiny')"),
    (lambda w: dt.sample(w.model, [0], switch_to=w.tuned, switch_at=5), "switch_to must be a Pretrained, not FineTuned: pass its .model"),
    (lambda w: dt.sample_controlnet(w.tuned, ["a shoe"], w.task.images), "model must be a Pretrained, not FineTuned: pass its .model"),
    (lambda w: dt.fine_tune_controlnet("tiny", w.task, folder=w.folder), "base must be a Pretrained, not 'tiny': pass load_pretrained('tiny')"),
    (lambda w: dt.fine_tune_controlnet(w.model, "digits", folder=w.folder), "task must be a Task, not 'digits': pass load_task('digits')"),
    (lambda w: dt.evaluate(w.task.images, "digits"), "reference images must be a tensor (N, 3, H, W), got str: a task's are its .images"),
    (lambda w: dt.zero_shot_denoising("tiny", w.task.images, [5]), "model must be a Pretrained, not 'tiny'"),
    (lambda w: dt.denoiser_replacement("runs/a", w.model, [0], w.task), "tuned must be a Pretrained, not 'runs/a'"),
    (lambda w: dt.denoiser_replacement(w.tuned, w.tuned, [0], w.task), "pretrained must be a Pretrained, not FineTuned: pass its .model"),
    (lambda w: dt.loss_ratio(w.model, w.tuned, w.task.images, w.task.labels, [5]), "after must be a Pretrained, not FineTuned: pass its .model"),
    (lambda w: w.model.encode(w.task), "images must be a tensor (N, 3, H, W), got Task: a task's are its .images"),
    (lambda w: dt.convert_original_dit("DiT-XL-2-256x256.pt", num_heads=16), "state_dict must be a dict, not 'DiT-XL-2-256x256.pt': pass torch.load('DiT-XL-2-256x256.pt')"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), CALLS)
def test_another_kind_is_told_what_to_pass(call, said, model, task, bank, tmp_path):
    tuned = FineTuned(model, None, CONFIG, torch.arange(3))
    with pytest.raises(TypeError) as error:
        call(SimpleNamespace(model=model, task=task, bank=bank, tuned=tuned, folder=tmp_path / "run"))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_task_stands_for_its_images(model, task):
    assert torch.equal(
        dt.zero_shot_denoising(model, task, [5], steps=10)["error"], dt.zero_shot_denoising(model, task.images, [5], steps=10)["error"]
    )
    by_task, by_images = (dt.loss_ratio(model, model, given, task.labels, [5, 900])["before"] for given in (task, task.images))
    assert torch.equal(by_task, by_images)
