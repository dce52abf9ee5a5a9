"""The DiT is one model again: tied, initialised as published, equal to the published architecture."""

from __future__ import annotations

import math

import pytest
import torch

from difftuning.models.dit import DiT, build_dit
from tests.models.helpers import LABELS, LAYERS, SIDE, SIZES, WIDTH, call


def randomise(dit: DiT, seed: int = 0) -> DiT:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in dit.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return dit


def embedders(transformer) -> list:
    return [block.norm1.emb for block in transformer.transformer_blocks]


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


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"width": 30, "num_heads": 4}, "got width 30, num_heads 4"),
        ({"latent_shape": (4, 8, 6)}, "must be square and a multiple of 2, got 8x6"),
        ({"latent_shape": (4, 7, 7)}, "must be square and a multiple of 2, got 7x7"),
    ],
)
def test_impossible_sizes_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        build_dit(**SIZES | sizes)
