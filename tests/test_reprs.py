"""What a notebook shows of an object by itself: name, size, classes, in one short line."""

from __future__ import annotations

import pandas
import torch

import difftuning as dt
from difftuning.training.fine_tuned import FineTuned
from small import small_bank, small_pretrained, small_task


def test_objects_say_what_they_are_in_one_short_line(tmp_path):
    model, task = small_pretrained(), small_task()
    tuned = FineTuned(model, pandas.DataFrame({"step": range(7)}), dt.DiffTuningConfig(steps=7), torch.arange(3))
    assert repr(model) == "<Pretrained small: 0.1 M weights, 5 classes, latents 4x4x4, cpu>"
    assert repr(task) == "<Task shapes: 40 pictures of 3 classes, 8x8>"
    assert repr(small_bank(model, tmp_path / "b")) == f"<MemoryBank {tmp_path / 'b'}: 20 samples of 5 classes, latents 4x4x4>"
    assert repr(tuned) == "<FineTuned small: 7 steps, 3 classes>"
    assert repr(model.diffusion) == "<Diffusion: 1000 timesteps, betas 0.0001 to 0.02>"
