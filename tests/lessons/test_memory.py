"""The memory of a training, part by part, against counts by hand and a model that is really there."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from difftuning.lessons import memory
from difftuning.models.adapters.apply import apply_adapter
from difftuning.models.dit import build_dit


@pytest.mark.parametrize(
    ("frozen", "kept"),
    [
        ((), 7 * 3 + 7 * 5),  # the picture, and what the ReLU gives, which is also the second layer's input
        (("0.weight",), 7 * 5),  # a frozen weight needs no input
        (("0.weight", "0.bias"), 7 * 5),
        (("0.weight", "0.bias", "2.weight"), 0),  # nothing comes back through the ReLU
    ],
)
def test_the_forward_pass_keeps_what_a_gradient_needs(frozen, kept):
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    for name, weight in model.named_parameters():
        weight.requires_grad_(name not in frozen)
    assert memory.kept_bytes(lambda: model(torch.zeros(7, 3)), list(model.parameters())) == 4 * kept


def test_shapes_alone_give_the_same_count_as_a_model_in_memory():
    options = {"width": 32, "num_heads": 2, "num_layers": 2, "latent_shape": (4, 4, 4), "num_labels": 3}
    with torch.device("meta"):
        shapes = build_dit(**options)
    for name in ("lora", "bitfit", "vpt"):
        real, imagined = (memory.training_memory(apply_adapter(copy.deepcopy(model), name), 5) for model in (build_dit(**options), shapes))
        assert real == imagined and real.activations > 0
        assert real.optimizer == 2 * real.gradients == 2 * real.average


def test_no_matrix_of_all_tokens_against_all_is_counted():
    """Twice the side is four times the tokens: activations grow as they do, and not as their square."""
    counts = []
    for side in (16, 32):
        with torch.device("meta"):
            model = build_dit(width=32, num_heads=2, num_layers=2, latent_shape=(4, side, side), num_labels=3)
        counts.append(memory.training_memory(model, 2).activations)
    assert 3.9 < counts[1] / counts[0] < 4.01


def test_adam_keeps_as_much_as_is_counted():
    model = build_dit(width=32, num_heads=2, num_layers=2, latent_shape=(4, 4, 4), num_labels=3)
    zeros = torch.zeros(1, dtype=torch.int64)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 4, 4, 4), zeros, zeros).sum().backward()
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert memory.training_memory(model, 1).optimizer == sum(each.numel() * each.element_size() for each in moments)
