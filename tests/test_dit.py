"""The DiT is one model again: tied, initialised as published, equal to the published architecture."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difftuning.dit import DiT, build_dit, convert_original_dit

WIDTH, HEADS, LAYERS, SIDE, LABELS = 24, 3, 3, 8, 6
SIZES = {"width": WIDTH, "num_heads": HEADS, "num_layers": LAYERS, "latent_shape": (4, SIDE, SIDE), "num_labels": LABELS}


def call(n: int = 3, side: int = SIDE, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_t = torch.randn(n, 4, side, side, generator=generator)
    return x_t, torch.tensor([0, 437, 999])[:n], torch.tensor([0, 3, LABELS])[:n]


def randomise(dit: DiT, seed: int = 0) -> DiT:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in dit.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return dit


def embedders(transformer) -> list:
    return [block.norm1.emb for block in transformer.transformer_blocks]


# One embedder


def test_all_blocks_share_one_embedder():
    dit = build_dit(**SIZES)
    assert len({id(embedder) for embedder in embedders(dit.transformer)}) == 1
    assert dit.label_table is embedders(dit.transformer)[2].class_embedder.embedding_table.weight
    assert dit.label_table.shape == (LABELS + 1, WIDTH)


def parameters_of_the_paper(width: int, layers: int, labels: int, patch: int = 2, channels: int = 4) -> int:
    def linear(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs

    embedders = linear(256, width) + linear(width, width) + (labels + 1) * width + linear(channels * patch**2, width)
    block = linear(width, 3 * width) + linear(width, width) + 2 * linear(width, 4 * width) - 3 * width + linear(width, 6 * width)
    return embedders + layers * block + linear(width, 2 * width) + linear(width, 2 * channels * patch**2)


def test_dit_xl_2_has_the_published_number_of_parameters():
    with torch.device("meta"):
        xl = build_dit(width=1152, num_heads=16, num_layers=28, latent_shape=(4, 32, 32), norm_eps=1e-6, frequency_shift=0)
    assert sum(weight.numel() for weight in xl.parameters()) == 674_834_720 == parameters_of_the_paper(1152, 28, 1000)


def test_small_sizes_have_the_parameters_of_the_formula():
    assert sum(weight.numel() for weight in build_dit(**SIZES).parameters()) == parameters_of_the_paper(WIDTH, LAYERS, LABELS)


def test_the_embedder_gathers_the_gradient_of_every_block():
    """The shared table's gradient is the sum of what untied copies would get."""
    dit = randomise(build_dit(**SIZES)).eval()
    x_t, t, labels = call()
    dit(x_t, t, labels).square().sum().backward()
    untied = dit.untied().eval()
    untied.zero_grad()
    untied(x_t, timestep=t, class_labels=labels).sample.square().sum().backward()
    total = sum(embedder.class_embedder.embedding_table.weight.grad for embedder in embedders(untied))
    torch.testing.assert_close(dit.label_table.grad, total, rtol=1e-4, atol=1e-4)


def test_untied_copy_owns_equal_embedders_and_draws_the_same():
    dit = randomise(build_dit(**SIZES)).eval()
    untied = dit.untied()
    copies = embedders(untied)
    assert len({id(embedder) for embedder in copies}) == LAYERS
    pointers = {embedder.class_embedder.embedding_table.weight.data_ptr() for embedder in copies}
    assert len(pointers | {dit.label_table.data_ptr()}) == LAYERS + 1
    for embedder in copies[1:]:
        for weight, first in zip(embedder.parameters(), copies[0].parameters()):
            assert torch.equal(weight, first)
    x_t, t, labels = call()
    assert torch.equal(untied(x_t, timestep=t, class_labels=labels).sample, dit(x_t, t, labels))
    assert len({id(embedder) for embedder in embedders(dit.transformer)}) == 1  # the original stays tied


# Start


def test_output_starts_at_exactly_zero():
    assert torch.equal(build_dit(**SIZES)(*call()), torch.zeros(3, 8, SIDE, SIDE))


def test_every_block_starts_as_the_identity():
    dit = build_dit(**SIZES)
    tokens = torch.randn(3, 16, WIDTH, generator=torch.Generator().manual_seed(0))
    _, t, labels = call()
    for block in dit.transformer.transformer_blocks:
        assert torch.equal(block(tokens, timestep=t, class_labels=labels), tokens)


def test_start_follows_the_published_laws():
    torch.manual_seed(0)
    dit = build_dit(width=96, num_heads=4, num_layers=1, latent_shape=(4, 8, 8), num_labels=200)
    block, embedder = dit.transformer.transformer_blocks[0], embedders(dit.transformer)[0]
    assert float(dit.label_table.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(embedder.timestep_embedder.linear_1.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    bound = math.sqrt(6 / (96 + 4 * 96))  # Xavier uniform: even up to this
    feed_in = block.ff.net[0].proj.weight.detach()
    assert 0.99 * bound < float(feed_in.abs().max()) <= bound
    assert float(feed_in.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    bound = math.sqrt(6 / (96 + 96))  # of queries, keys and values each: the published code has one matrix of 3 * 96 rows
    for linear in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v):
        assert 0.98 * bound < float(linear.weight.detach().abs().max()) <= bound
    bound = math.sqrt(6 / (96 + 16))  # patches as a matrix of 16 columns
    assert 0.98 * bound < float(dit.transformer.pos_embed.proj.weight.detach().abs().max()) <= bound
    linear_biases = [module.bias for module in dit.modules() if isinstance(module, torch.nn.Linear)]
    assert all(bool((bias == 0).all()) for bias in linear_biases)


def test_train_mode_drops_no_labels():
    dit = randomise(build_dit(**SIZES))
    x_t, t, labels = (part.repeat_interleave(20, 0) for part in call())
    dit.train()
    trained = dit(x_t, t, labels)
    assert torch.equal(trained, dit(x_t, t, labels))
    assert torch.equal(trained, dit.eval()(x_t, t, labels))


def test_output_depends_on_picture_timestep_and_label():
    dit = randomise(build_dit(**SIZES)).eval()
    x_t, t, labels = call()
    out = dit(x_t, t, labels)
    for changed in (dit(x_t + 0.1, t, labels), dit(x_t, t.flip(0)[[0, 0, 2]], labels), dit(x_t, t, (labels + 1) % LABELS)):
        assert float((changed - out)[0].detach().abs().max()) > 1e-3


# The published architecture, from its description


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


# Errors


@pytest.mark.parametrize("name", ["blocks.0.attn.q_norm.weight", "decoder.weight", "blocks.1.mlp.fc3.bias"])
def test_foreign_entries_are_named(name):
    with pytest.raises(ValueError, match=f"not an original DiT state dict: unknown entry '{name}'"):
        convert_original_dit(original_weights() | {name: torch.zeros(3)}, num_heads=HEADS)


def test_another_kind_of_checkpoint_is_refused_by_what_it_lacks():
    with pytest.raises(ValueError, match="not an original DiT state dict: it has no 'blocks.0.attn.qkv.weight'"):
        convert_original_dit({"conv_in.weight": torch.zeros(1)}, num_heads=HEADS)


@pytest.mark.parametrize(
    "name, error, named",
    [
        ("t_embedder.mlp.0.weight", ValueError, "t_embedder.mlp.0.weight"),
        ("blocks.1.attn.qkv.weight", ValueError, "transformer_blocks.1.attn1.to_q.weight"),
        ("final_layer.linear.bias", ValueError, "proj_out_2.bias"),
    ],
)
def test_a_missing_weight_is_an_error_that_names_it(name, error, named):
    state = original_weights()
    del state[name]
    with pytest.raises(error, match=named):
        convert_original_dit(state, num_heads=HEADS)


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"width": 30, "num_heads": 4}, "got width 30, num_heads 4"),
        ({"latent_shape": (4, 8, 6)}, "must be square and a multiple of patch_size 2, got 8x6"),
        ({"latent_shape": (4, 7, 7)}, "must be square and a multiple of patch_size 2, got 7x7"),
    ],
)
def test_impossible_sizes_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        build_dit(**SIZES | sizes)


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
