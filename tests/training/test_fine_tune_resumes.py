"""An interrupted fine-tuning goes on to the same bits, and another run is refused."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from difftuning.data.tasks import load_task
from difftuning.models.pretrained import Pretrained
from difftuning.training.fine_tuned import load_fine_tuned
from difftuning.training.memory_bank import MemoryBank
from small import run_python, small_bank, small_pretrained, small_task
from tests.training.helpers import contents, tune, weights

KILLED = """
import os, signal
from difftuning.training import checkpoints, fine_tuned
from difftuning.training.memory_bank import MemoryBank
from small import small_pretrained, small_task
from tests.training.helpers import tune
pretrained, task, bank, folder = small_pretrained(), small_task(), MemoryBank.load(sys.argv[1]), sys.argv[2]

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def run(prepare):
    child = os.fork()
    if child == 0:
        callbacks = prepare() or ()
        tune(pretrained, task, bank, folder, callbacks=callbacks)
        os._exit(0)
    return os.waitpid(child, 0)[1]

def at_step(number):
    return lambda: [lambda state: kill() if state.step == number else None]

def while_claiming_the_folder():
    from difftuning.training import run
    run.write_json = kill

def while_writing_the_second_checkpoint():
    real = checkpoints.save_tensors
    def save_tensors(path, tensors):
        real(path, tensors)
        if "step-00000010" in str(path) and path.name == "ema.safetensors":
            kill()
    checkpoints.save_tensors = save_tensors

def while_saving_the_result():
    fine_tuned.write_json = kill

for prepare in (while_claiming_the_folder, at_step(3), at_step(8), while_writing_the_second_checkpoint, while_saving_the_result):
    assert run(prepare) == signal.SIGKILL, prepare
    assert not os.path.exists(folder + "/result.json")
assert run(lambda: None) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_a_run_killed_again_and_again_ends_as_the_same_bits(bank, tuned, tmp_path):
    run_python(KILLED, bank.folder, tmp_path / "run")
    killed = load_fine_tuned(tmp_path / "run")
    assert torch.equal(weights(killed.model.denoiser), weights(tuned.model.denoiser))
    assert killed.history.drop(columns="seconds").equals(tuned.history.drop(columns="seconds"))
    left = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert sorted(left) == ["step-00000010", "step-00000012"]


def test_more_steps_go_on_from_a_finished_run(pretrained, task, bank, tuned, tmp_path):
    tune(pretrained, task, bank, tmp_path, steps=7)
    longer = tune(pretrained, task, bank, tmp_path, checkpoint_every=2)
    assert torch.equal(weights(longer.model.denoiser), weights(tuned.model.denoiser)) and len(load_fine_tuned(tmp_path).history) == 12


def test_memory_that_ran_out_is_answered_by_accumulation_in_the_same_folder(pretrained, task, bank, tuned, tmp_path):
    """The sums come in another order: the same gradients up to rounding, so the weights agree and their last bits may not."""
    tune(pretrained, task, bank, tmp_path, steps=5)
    other = tune(pretrained, task, bank, tmp_path, accumulation=3)
    assert other.config.accumulation == 3 == load_fine_tuned(tmp_path).config.accumulation and len(other.history) == 12
    torch.testing.assert_close(weights(other.model.denoiser), weights(tuned.model.denoiser), atol=1e-5, rtol=0)


def test_the_same_pictures_elsewhere_are_the_same_run(pretrained, tmp_path):
    for name in ("near", "far"):
        (tmp_path / "here" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (60 * i, 0, 200)).save(tmp_path / "here" / name / f"{i}.bmp")
    tune(pretrained, load_task(tmp_path / "here", size=8), None, tmp_path / "run", steps=2, batch_size=4)
    there = shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)  # without their times
    assert len(tune(pretrained, load_task(there, size=8), None, tmp_path / "run", steps=3, batch_size=4).history) == 3
    path = there / "near" / "0.bmp"
    stat = path.stat()
    Image.new("RGB", (8, 8), "red").save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ValueError, match="task was"):
        tune(pretrained, load_task(there, size=8), None, tmp_path / "run", steps=4, batch_size=4)


@pytest.mark.parametrize("options, said", [
    ({"learning_rate": 2e-3, "seed": 1}, ["learning_rate was 0.001, is 0.002", "seed was 0, is 1"]),
    ({"steps": 5}, ["holds 12 steps already"]),
    ({"family": "paper"}, ["family was 'official', is 'paper'"]),
])  # fmt: skip
def test_another_configuration_is_refused_by_name_and_nothing_is_written(pretrained, task, bank, tuned_folder, options, said):
    before = contents(tuned_folder)
    with pytest.raises(ValueError) as caught:
        tune(pretrained, task, bank, tuned_folder, **options)
    assert all(part in str(caught.value) for part in said) and "\n" not in str(caught.value)
    assert contents(tuned_folder) == before


def test_another_task_model_or_bank_is_another_run(pretrained, task, bank, tuned_folder, tmp_path):
    before = contents(tuned_folder)
    noise = MemoryBank(bank.folder, bank.recipe, torch.randn_like(bank.latents), bank.labels)
    other = small_pretrained(seed=1)
    for model, data, used, field in (
        (pretrained, small_task(seed=1), bank, "task was"), (pretrained, task, None, "bank was"), (pretrained, task, noise, "bank was"),
        (other, task, small_bank(other, tmp_path / "bank"), "pretrained was"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=field):
            tune(model, data, used, tuned_folder)
    assert contents(tuned_folder) == before


def test_another_autoencoder_forward_process_or_mirroring_is_another_run(pretrained, task, bank, tuned_folder):
    """What decides the training pictures or the noise is part of a run, though the denoiser's weights be the same."""
    encoder = pretrained.with_denoiser(pretrained.copy_denoiser())
    encoder.autoencoder = small_pretrained(seed=1).autoencoder
    with pytest.raises(ValueError, match="encoder was"):
        tune(encoder, task, bank, tuned_folder)
    with pytest.raises(ValueError, match="flip was False, is True"):
        tune(pretrained, replace(task, flip=True), bank, tuned_folder)
    process = DDIMScheduler(beta_start=1e-4, beta_end=0.03, beta_schedule="linear")
    other = Pretrained(pretrained.copy_denoiser(), pretrained.autoencoder, process, label_names=pretrained.label_names)
    with pytest.raises(ValueError, match="sampled from another model"):
        tune(other, task, bank, tuned_folder)


def test_steps_are_fixed_where_the_learning_rate_falls_towards_them(pretrained, task, tmp_path):
    tune(pretrained, task, None, tmp_path, steps=4, cooldown_steps=2)
    with pytest.raises(ValueError, match="steps was 4, is 6"):
        tune(pretrained, task, None, tmp_path, steps=6, cooldown_steps=2)
