"""Converted weights give the published outputs; what is no such state dict is named."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difftuning.models.conversion import convert_original_dit
from difftuning.models.dit import DiT, build_dit
from tests.models.helpers import HEADS, LABELS, LAYERS, SIDE, SIZES, WIDTH, call


def original_weights(*, width: int = WIDTH, layers: int = LAYERS, side: int = SIDE, patch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names and shapes of a published checkpoint."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return 0.3 * torch.randn(shape, generator=generator)

    state = {"pos_embed": sincos_positions(side // patch, width)[None], "y_embedder.embedding_table.weight": random(LABELS + 1, width)}
    state |= {"x_embedder.proj.weight": random(width, 4, patch, patch), "x_embedder.proj.bias": random(width)}
    linears = {"t_embedder.mlp.0": (256, width), "t_embedder.mlp.2": (width, width)}
    for i in range(layers):
        linears |= {
            f"blocks.{i}.adaLN_modulation.1": (width, 6 * width),
            f"blocks.{i}.attn.qkv": (width, 3 * width),
            f"blocks.{i}.attn.proj": (width, width),
            f"blocks.{i}.mlp.fc1": (width, 4 * width),
            f"blocks.{i}.mlp.fc2": (4 * width, width),
        }
    linears |= {"final_layer.adaLN_modulation.1": (width, 2 * width), "final_layer.linear": (width, patch * patch * 8)}
    for name, (inputs, outputs) in linears.items():
        state |= {f"{name}.weight": random(outputs, inputs), f"{name}.bias": random(outputs)}
    return state


def sincos_positions(grid: int, width: int) -> Tensor:
    """(grid^2, width): a quarter each of sin(column), cos(column), sin(row), cos(row)."""
    rows = []
    frequencies = [10000 ** (-k / (width // 4)) for k in range(width // 4)]
    for row in range(grid):
        for column in range(grid):
            turns = [[at * f for f in frequencies] for at in (column, row)]
            rows.append([wave(a) for angles in turns for wave in (math.sin, math.cos) for a in angles])
    return torch.tensor(rows)


def published_forward(state: dict[str, Tensor], x_t: Tensor, t: Tensor, labels: Tensor, *, heads: int) -> Tensor:
    """DiT with adaLN-zero blocks as the paper describes it, by plain tensor operations."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def silu(x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-x))

    def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        normal = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return normal * (1 + scale[:, None]) + shift[:, None]

    kernel = state["x_embedder.proj.weight"]
    width, _, patch, _ = kernel.shape
    n, _, side, _ = x_t.shape
    x = F.conv2d(x_t, kernel, state["x_embedder.proj.bias"], stride=patch).reshape(n, width, -1).transpose(1, 2)
    x = x + state["pos_embed"]

    half = 128
    frequencies = torch.exp(-math.log(10000) * torch.arange(half) / half)
    angles = t.float()[:, None] * frequencies
    waves = torch.cat([angles.cos(), angles.sin()], 1).to(x_t.dtype)
    time = linear("t_embedder.mlp.2", silu(linear("t_embedder.mlp.0", waves)))
    condition = silu(time + state["y_embedder.embedding_table.weight"][labels])

    layers = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    for i in range(layers):
        block = f"blocks.{i}"
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = linear(f"{block}.adaLN_modulation.1", condition).chunk(6, 1)
        qkv = linear(f"{block}.attn.qkv", modulated(x, shift_a, scale_a))
        q, k, v = qkv.reshape(n, -1, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2) / math.sqrt(width // heads)).softmax(-1) @ v
        x = x + gate_a[:, None] * linear(f"{block}.attn.proj", mixed.transpose(1, 2).reshape(n, -1, width))
        hidden = linear(f"{block}.mlp.fc1", modulated(x, shift_m, scale_m))
        hidden = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
        x = x + gate_m[:, None] * linear(f"{block}.mlp.fc2", hidden)
    shift, scale = linear("final_layer.adaLN_modulation.1", condition).chunk(2, 1)
    out = linear("final_layer.linear", modulated(x, shift, scale))  # (n, tokens, patch * patch * 2C)
    grid = side // patch
    return out.reshape(n, grid, grid, patch, patch, -1).permute(0, 5, 1, 3, 2, 4).reshape(n, -1, side, side)


@pytest.mark.parametrize("sizes, heads", [({}, 3), ({"width": 16, "layers": 1, "side": 12, "patch": 4}, 2)])
def test_converted_model_has_the_published_outputs(sizes, heads):
    state = original_weights(**sizes)
    x_t, t, labels = call(side=sizes.get("side", SIDE))
    dit = convert_original_dit(state, num_heads=heads)
    expected = published_forward(state, x_t, t, labels, heads=heads)
    with torch.no_grad():
        out = dit(x_t, t, labels)
    assert float((out - expected).norm() / expected.norm()) < 1e-5
    assert not dit.training
    assert dit.latent_shape == tuple(x_t.shape[1:])


def test_published_outputs_need_both_conventions_of_the_published_weights():
    """In float64 the comparison sees the frequencies and the epsilon: stock diffusers' values fail it."""
    state = {name: tensor.double() for name, tensor in original_weights().items()}
    x_t, t, labels = call()
    expected = published_forward(state, x_t.double(), t, labels, heads=HEADS)
    dit = convert_original_dit({name: tensor.float() for name, tensor in state.items()}, num_heads=HEADS).double()
    stock_eps = build_dit(**SIZES, norm_eps=1e-5, frequency_shift=0).double().eval()
    stock_eps.load_state_dict(dit.state_dict())

    def error(model: DiT) -> list[float]:
        with torch.no_grad():
            difference = model(x_t.double(), t, labels) - expected
        return (difference.flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).tolist()

    assert max(error(dit)) < 1e-10
    assert max(error(stock_eps)) > 1e-9
    assert error(DiT(dit.transformer, frequency_shift=1))[1] > 0.01  # t = 437


def test_training_checkpoints_give_their_ema_entry_first():
    ema, model = original_weights(seed=1), original_weights(seed=2)
    table = "y_embedder.embedding_table.weight"
    assert torch.equal(convert_original_dit({"model": model, "ema": ema, "opt": {}}, num_heads=HEADS).label_table, ema[table])
    assert torch.equal(convert_original_dit({"model": model, "opt": {}}, num_heads=HEADS).label_table, model[table])


def test_conversion_copies_every_weight():
    """As many numbers arrive as were sent, with the same sum: none is left at its start."""
    state = original_weights()
    dit = convert_original_dit(state, num_heads=HEADS)
    sent = sum(tensor.double().sum() for name, tensor in state.items() if name != "pos_embed")
    arrived = sum(weight.detach().double().sum() for weight in dit.parameters())
    assert float(arrived) == pytest.approx(float(sent), rel=1e-9)
    numbers = sum(tensor.numel() for name, tensor in state.items() if name != "pos_embed")
    assert sum(weight.numel() for weight in dit.parameters()) == numbers


@pytest.mark.parametrize("name", ["blocks.0.attn.q_norm.weight", "decoder.weight", "blocks.1.mlp.fc3.bias"])
def test_foreign_entries_are_named(name):
    with pytest.raises(ValueError, match=f"not an original DiT state dict .*{name.rpartition('.')[0].rpartition('.')[2]}"):
        convert_original_dit(original_weights() | {name: torch.zeros(3)}, num_heads=HEADS)


def test_another_kind_of_checkpoint_is_refused_by_what_it_lacks():
    with pytest.raises(ValueError, match="not an original DiT state dict .*x_embedder.proj.weight"):
        convert_original_dit({"conv_in.weight": torch.zeros(1)}, num_heads=HEADS)


@pytest.mark.parametrize(
    "name, error, named",
    [
        ("t_embedder.mlp.0.weight", ValueError, "timestep_embedder.linear_1.weight"),
        ("blocks.1.attn.qkv.weight", ValueError, "transformer_blocks.1.attn1.to_q.weight"),
        ("final_layer.linear.bias", ValueError, "proj_out_2.bias"),
    ],
)
def test_a_missing_weight_is_an_error_that_names_it(name, error, named):
    state = original_weights()
    del state[name]
    with pytest.raises(error, match=named):
        convert_original_dit(state, num_heads=HEADS)


def test_wrong_number_of_heads_is_named_on_conversion():
    with pytest.raises(ValueError, match="got width 24, num_heads 5"):
        convert_original_dit(original_weights(), num_heads=5)


def test_conversion_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    convert_original_dit(original_weights(), num_heads=HEADS)
    assert torch.equal(torch.get_rng_state(), before)


def test_conversion_names_heads_and_weights_in_one_line():
    state = original_weights()
    del state["blocks.1.mlp.fc1.bias"]
    for given, heads, said in ((state, HEADS, "blocks.1.ff.net.0.proj.bias"), (original_weights(), 0, "num_heads 0")):
        with pytest.raises(ValueError, match=said) as caught:
            convert_original_dit(given, num_heads=heads)
        assert "\n" not in str(caught.value)
