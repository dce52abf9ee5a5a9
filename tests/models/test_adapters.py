"""What each adapter adds and trains, by names and by numbers worked out by hand."""

from __future__ import annotations

import copy

import pytest
import torch

from difftuning import apply_adapter, merge_adapter, parameter_share
from difftuning.models.adapters.apply import without_adapter
from difftuning.models.adapters.options import ADAPTERS, AdaptFormer, DiffFit, LoRA
from difftuning.models.dit import DiT, build_dit
from small import small_pretrained

TABLE = "transformer.transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"
WIDTH, BLOCKS = 32, 2  # of the small model
X_T, T, LABELS = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(5)), torch.tensor([3, 400, 999]), torch.tensor([0, 4, 12])


def denoiser() -> DiT:
    return small_pretrained().denoiser


def trained(model: DiT) -> dict[str, torch.nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def shaken(model: DiT, seed: int = 1) -> DiT:
    """As after training: everything that is trained lies elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in trained(model).values():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "vpt"])
def test_the_output_is_unchanged_at_the_start(name):
    model = denoiser()
    before = model(X_T, T, LABELS)
    torch.testing.assert_close(apply_adapter(model, name)(X_T, T, LABELS), before, rtol=0, atol=0)


def test_prompts_are_seen_from_the_start():
    model = denoiser()
    before = model(X_T, T, LABELS)
    assert not torch.allclose(apply_adapter(model, "vpt")(X_T, T, LABELS), before, atol=1e-3)


def test_bitfit_trains_the_biases_and_the_label_table():
    model = apply_adapter(denoiser(), "bitfit")
    assert set(trained(model)) == {name for name, _ in model.named_parameters() if name.endswith("bias")} | {TABLE}


def test_lora_trains_two_factors_of_each_layer_asked_for():
    rank, width = 4, WIDTH
    for targets, layers in {"query_value": ["to_q", "to_v"], "attention": ["to_q", "to_k", "to_v", "to_out.0"]}.items():
        model = apply_adapter(denoiser(), "lora", rank=rank, targets=targets)
        wanted = {
            f"transformer.transformer_blocks.{block}.attn1.{layer}.lora_{factor}.default.weight": shape
            for block in range(BLOCKS)
            for layer in layers
            for factor, shape in (("A", (rank, width)), ("B", (width, rank)))
        }
        assert {name: tuple(weight.shape) for name, weight in trained(model).items() if name != TABLE} == wanted
    model = apply_adapter(denoiser(), "lora", rank=rank, targets="all")
    assert sum(weight.numel() for weight in trained(model).values()) == BLOCKS * rank * (4 * 2 * width + 2 * 5 * width) + 13 * width


def test_difffit_trains_biases_and_scales_of_the_first_half_and_the_label_table():
    model = apply_adapter(denoiser(), "difffit")
    biases = {name.replace(".base_layer", "") for name in trained(model) if name.endswith("bias")}
    assert biases == {name for name, _ in denoiser().named_parameters() if name.endswith("bias")}
    scales = {f"transformer.transformer_blocks.0.{layer}.gamma" for layer in ("attn1", "ff")}
    assert {name for name in trained(model) if not name.endswith("bias")} == scales | {TABLE}
    assert all(torch.equal(weight, torch.ones(WIDTH)) for name, weight in trained(model).items() if name in scales)
    both = {name for name in trained(apply_adapter(denoiser(), "difffit", depth=2)) if name.endswith("gamma")}
    assert both == scales | {name.replace(".0.", ".1.") for name in scales}


@pytest.mark.parametrize("name", ["adaptformer", "adaptformer_parallel"])
def test_adaptformer_adds_a_narrow_mlp_after_or_beside_each_mlp(name):
    model = shaken(apply_adapter(denoiser(), name, bottleneck=5, scale=0.3))
    x = torch.randn(2, 4, WIDTH)
    for block in model.transformer.transformer_blocks:
        layer = block.ff
        assert layer.down.weight.shape == (5, WIDTH) and layer.up.weight.shape == (WIDTH, 5)
        mlp = layer.base_layer(x)
        seen = x if name == "adaptformer_parallel" else mlp
        hidden = (seen @ layer.down.weight.T + layer.down.bias).clamp(min=0)
        torch.testing.assert_close(layer(x), mlp + 0.3 * (hidden @ layer.up.weight.T + layer.up.bias))


def test_prompts_stand_before_the_picture_in_each_block_and_are_dropped_behind_it():
    model, tokens, seen = apply_adapter(denoiser(), "vpt", tokens=7), 4, []
    for block in model.transformer.transformer_blocks:
        block.base_layer.attn1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
        block.register_forward_hook(lambda _, inputs, output: seen.append(output.shape[1]))
    assert model(X_T, T, LABELS).shape == (3, 8, 4, 4)
    assert seen == [7 + tokens, tokens] * BLOCKS
    prompts = [block.prompts for block in model.transformer.transformer_blocks]
    assert all(prompt.shape == (7, WIDTH) for prompt in prompts) and not torch.equal(*prompts)
    assert len(trained(model)) == BLOCKS + 1


def test_prompts_act_as_further_tokens_of_the_block():
    model = apply_adapter(denoiser(), "vpt", tokens=3)
    block, hidden = model.transformer.transformer_blocks[1], torch.randn(2, 4, WIDTH)
    longer = torch.cat([block.prompts.expand(2, -1, -1), hidden], dim=1)
    told = {"timestep": T[:2], "class_labels": LABELS[:2]}
    torch.testing.assert_close(block(hidden, **told), block.base_layer(longer, **told)[:, 3:])


@pytest.mark.parametrize("name", ["bitfit", "lora", "difffit"])
def test_a_merged_model_is_stock_and_draws_the_same(name):
    model = shaken(apply_adapter(denoiser(), name))
    apart = model(X_T, T, LABELS)
    assert not torch.allclose(apart, denoiser()(X_T, T, LABELS), atol=1e-3)
    merged = merge_adapter(model)
    torch.testing.assert_close(merged(X_T, T, LABELS), apart, rtol=1e-5, atol=1e-5)
    assert list(dict(merged.named_parameters())) == list(dict(denoiser().named_parameters()))
    assert merged.adapter is None and all(weight.requires_grad for weight in merged.parameters())
    apply_adapter(merged, "lora")  # nothing is left that would be in the way


@pytest.mark.parametrize("name", ["adaptformer", "adaptformer_parallel", "vpt"])
def test_what_is_no_change_of_weights_cannot_be_merged(name):
    model = apply_adapter(denoiser(), name)
    before = dict(model.named_parameters()).keys()
    with pytest.raises(ValueError, match="it cannot be merged"):
        merge_adapter(model)
    assert dict(model.named_parameters()).keys() == before


@pytest.mark.parametrize("name", ADAPTERS)
def test_without_its_adapter_a_model_is_what_it_was(name):
    model = shaken(apply_adapter(denoiser(), name))
    bare, original = dict(without_adapter(copy.deepcopy(model)).named_parameters()), dict(denoiser().named_parameters())
    assert bare.keys() == original.keys() and all(torch.equal(bare[key], original[key]) for key in bare)
    assert model.adapter is not None


def test_new_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    one, state = apply_adapter(denoiser(), "lora"), torch.get_rng_state()
    torch.manual_seed(2)
    two, other = apply_adapter(denoiser(), "lora"), apply_adapter(denoiser(), "lora", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state()), "the caller's own draws are left alone"


def test_a_pretrained_takes_an_adapter_in_place():
    model = small_pretrained()
    assert apply_adapter(model, LoRA(rank=2)) is model and model.denoiser.adapter == LoRA(rank=2)


def xl() -> DiT:
    """DiT-XL/2's shapes without its memory."""
    with torch.device("meta"):
        return build_dit(width=1152, num_heads=16, num_layers=28, latent_shape=(4, 32, 32), norm_eps=1e-6, frequency_shift=0)


@pytest.mark.parametrize(
    ("adapter", "published"),
    [("bitfit", "0.09"), (LoRA(rank=8), "0.17"), (LoRA(rank=16), "0.32"), ("adaptformer", "0.63"), ("adaptformer_parallel", "0.63")],
)
def test_shares_of_dit_xl_are_the_published_ones(adapter, published):
    """Per cent as the DiffFit paper's table prints them; they come out where the label table has a row for each of 101 classes."""
    model = apply_adapter(xl(), adapter)
    assert f"{100 * parameter_share(model, num_classes=101):.2f}" == published
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


def test_difffits_share_of_dit_xl_is_below_the_published_one():
    """0.12 is printed.  Biases, label rows and the text's two scales in half of the blocks are 0.09; it takes six scales in all."""
    biases = 28 * (4 * 1152 + 4608 + 1152 + 6 * 1152) + 1152 + 2 * 1152 + 2 * 1152 + 32
    rows, text, six = 102 * 1152, 14 * 2 * 1152, 28 * 6 * 1152
    total = 674_834_720 - (1001 - 102) * 1152
    share = parameter_share(apply_adapter(xl(), "difffit"), num_classes=101)
    assert share == (biases + rows + text) / (total + text) and f"{100 * share:.2f}" == "0.09"
    assert f"{100 * (biases + rows + six) / (total + six):.2f}" == "0.12"


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (lambda: apply_adapter(denoiser(), "lorra"), "unknown adapter 'lorra'.*did you mean 'lora'"),
        (lambda: apply_adapter(denoiser(), "vpt", rank=8), "vpt has no option 'rank': it has tokens"),
        (lambda: apply_adapter(denoiser(), "bitfit", rank=8), "bitfit has no option 'rank': it has none"),
        (lambda: apply_adapter(denoiser(), LoRA(), rank=8), "options go into the adapter"),
        (
            lambda: apply_adapter(apply_adapter(denoiser(), "lora"), "vpt"),
            "has an adapter already, lora: merge it first, or take the model without",
        ),
        (lambda: apply_adapter(apply_adapter(denoiser(), "vpt"), "lora"), "has an adapter already, vpt: take the model without"),
        (lambda: apply_adapter(denoiser(), LoRA), r"not the class LoRA: pass LoRA\(\)"),
        (lambda: merge_adapter(denoiser()), "no adapter to merge"),
        (lambda: LoRA(rank=0), "rank must be at least 1, got 0"),
        (lambda: LoRA(rank=2.5), "rank must be a whole number, got 2.5"),
        (lambda: LoRA(targets="to_q"), "unknown targets 'to_q': choose one of query_value, attention, all"),
        (lambda: AdaptFormer(scale=float("inf")), "scale must be finite"),
        (lambda: apply_adapter(denoiser(), DiffFit(depth=3)), "depth must be at most 2"),
    ],
)
def test_a_mistake_is_named(mistake, said):
    with pytest.raises(ValueError, match=said):
        mistake()


def test_what_is_no_model_is_named_with_what_to_pass():
    for call in (merge_adapter, parameter_share, lambda model: apply_adapter(model, "lora")):
        with pytest.raises(TypeError, match="an adapter is on a Pretrained or a denoiser, not 'tiny': pass what load_pretrained returns"):
            call("tiny")
