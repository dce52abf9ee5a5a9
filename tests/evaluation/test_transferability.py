"""The index is a ratio of plain losses: computed here without the library's loops."""

import math
from dataclasses import replace

import pytest
import torch

from difftuning import transferability
from difftuning.evaluation.chain_of_forgetting import chain_tenths
from difftuning.support.random import seeded_generator
from small import small_pretrained, small_task


def loss(model, images, t):
    x_0 = model.encode(images)
    noise = torch.randn(x_0.shape, generator=seeded_generator(0, "timestep loss", t))
    a = model.diffusion.alphas_cumprod[t].float()
    output = model.denoiser(a.sqrt() * x_0 + (1 - a).sqrt() * noise, torch.full((len(x_0),), t), torch.full((len(x_0),), 12))
    return float((output[:, :4] - noise).square().mean())


@torch.no_grad()
def test_each_tenth_is_the_ratio_of_the_losses_on_both_sets_without_labels():
    model, task, own = small_pretrained(), small_task(size=9), small_task(size=6, seed=5)
    found = transferability(model, task, own=own)
    tenths = chain_tenths(1000, 2).tolist()
    target = [sum(loss(model, task.images, t) for t in ts) / 2 for ts in tenths]
    home = [sum(loss(model, own.images, t) for t in ts) / 2 for ts in tenths]
    torch.testing.assert_close(found["target"], torch.tensor(target).double(), rtol=1e-4, atol=0)
    torch.testing.assert_close(found["ratio"], torch.tensor(target).double() / torch.tensor(home).double(), rtol=1e-4, atol=0)
    assert math.isclose(found["index"], sum(math.log(a / b) for a, b in zip(target[:3], home[:3])) / 3, rel_tol=1e-3, abs_tol=1e-5)


def test_on_its_own_pictures_a_model_transfers_exactly():
    model, task = small_pretrained(), small_task(size=8)
    assert transferability(model, task, own=replace(task, name="again"))["index"] == 0


def test_a_model_of_no_world_is_held_against_pictures_that_it_draws():
    found = transferability(small_pretrained(), small_task(size=4), pictures=4)
    assert found["own"].shape == (10,) and bool((found["own"] > 0).all())


@pytest.mark.parametrize("given, error, message", [
    ({"task": "digits"}, TypeError, "task must be a Task, not 'digits': pass load_task"),
    ({"own": "digits"}, TypeError, "own must be a Task, not 'digits': pass load_task"),
    ({"pretrained": "tiny"}, TypeError, "pretrained must be a Pretrained, not 'tiny'"),
    ({"pictures": 0}, ValueError, "pictures must be at least 1, got 0"),
])  # fmt: skip
def test_what_cannot_be_measured_is_said_at_once(given, error, message):
    with pytest.raises(error, match=message):
        transferability(**{"pretrained": small_pretrained(), "task": small_task(size=4)} | given)
