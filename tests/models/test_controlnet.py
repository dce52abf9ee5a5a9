"""A ControlNet starts as nothing, trains its zero convolutions first, and fits the autoencoder or is refused."""

from __future__ import annotations

import pytest
import torch

from difftuning.models.controlnet import (
    ControlNetAdapter,
    embedding_channels,
    require_matching_factor,
)
from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.sampling import sample, sample_controlnet
from small import small_text_to_image

ZERO = ("controlnet_cond_embedding.conv_out", "controlnet_down_blocks", "controlnet_mid_block")


@pytest.fixture
def model() -> Pretrained:
    """A base with a fresh ControlNet, frozen but for that."""
    base = small_text_to_image()
    ControlNetAdapter((16, 32))(base.denoiser)
    return base


def told(model: Pretrained, n: int = 3) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x_t, control = torch.randn(n, 4, 4, 4, generator=generator), torch.rand(n, 3, 8, 8, generator=generator)
    return x_t, torch.arange(n) * 300, {"text": model.denoiser.tokens(["a small shape"] * n), "control": control}


def test_a_fresh_controlnet_leaves_the_base_s_output_as_it_is_to_the_bit(model):
    x_t, t, conditions = told(model)
    without = small_text_to_image().predict(x_t, t, None, text=conditions["text"])
    assert torch.equal(model.predict(x_t, t, None, **conditions), without)


def test_the_first_backward_gives_a_gradient_to_the_zero_convolutions_alone(model):
    x_t, t, conditions = told(model)
    denoiser = model.denoiser.train()
    denoiser(x_t, t, **conditions).square().mean().backward()
    moved = {name for name, weight in denoiser.named_parameters() if weight.grad is not None and bool(weight.grad.any())}
    outputs = {
        name for name, _ in denoiser.named_parameters() if name.startswith(("controlnet.controlnet_down", "controlnet.controlnet_mid"))
    }
    assert moved == outputs  # that of the condition's embedding stands behind them
    assert all(name.startswith("controlnet.") for name, weight in denoiser.named_parameters() if weight.requires_grad)
    assert not any(weight.any() for name, weight in denoiser.controlnet.named_parameters() if name.startswith(ZERO))
    with torch.no_grad():
        for weight in denoiser.parameters():
            if weight.grad is not None:
                weight.sub_(weight.grad)
    denoiser(x_t, t, **conditions).square().mean().backward()
    assert bool(denoiser.controlnet.controlnet_cond_embedding.conv_out.weight.grad.any())  # from the second step on


def test_pictures_of_eight_bits_are_told_as_the_floats_they_stand_for(model):
    x_t, t, conditions = told(model)
    with torch.no_grad():
        for weight in model.denoiser.controlnet.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    pictures = (conditions["control"] * 255).round().to(torch.uint8)
    outputs = [model.predict(x_t, t, None, text=conditions["text"], control=told) for told in (pictures, pictures.float() / 255)]
    assert torch.equal(*outputs)
    assert not torch.allclose(outputs[0], model.predict(x_t, t, None, text=conditions["text"], control=1 - pictures.float() / 255))


def test_the_seed_decides_the_new_weights():
    bases = [small_text_to_image() for _ in range(3)]
    for base, seed in zip(bases, (0, 0, 1)):
        ControlNetAdapter((16, 32), seed)(base.denoiser)
    first, again, other = (base.denoiser.controlnet.controlnet_cond_embedding.conv_in.weight for base in bases)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(("factor", "channels"), [(1, (16,)), (2, (16, 32)), (4, (16, 32, 96)), (8, (16, 32, 96, 256))])
def test_the_embedding_shrinks_pictures_as_the_autoencoder_does(factor, channels):
    assert embedding_channels(factor) == channels


def test_an_embedding_of_another_factor_is_refused(tmp_path):
    base = small_text_to_image()
    with pytest.raises(
        ValueError, match="shrinks pictures by 8, the autoencoder of small text by 2: it needs 2 embedding channels, not 4$"
    ):
        require_matching_factor(base, (16, 32, 96, 256))
    ControlNetAdapter((16, 32, 96))(base.denoiser)
    base.save(tmp_path / "model")
    with pytest.raises(ValueError, match="shrinks pictures by 4, the autoencoder of small text by 2"):
        load_pretrained(tmp_path / "model")


@pytest.mark.parametrize("call", [
    lambda model, pictures: sample_controlnet(model, ["a shape"] * 3, pictures),
    lambda model, pictures: sample_controlnet(model, "a shape", pictures),
    lambda model, pictures: sample(model, ["a shape"] * 3, conditions={"control": pictures}),
])  # fmt: skip
@pytest.mark.parametrize(("pictures", "message"), [
    (torch.zeros(3, 1, 8, 8), r"must have shape \(N, 3, 8, 8\), got \(3, 1, 8, 8\); grey ones have three equal channels$"),
    (torch.zeros(3, 8, 8), r"must have shape \(N, 3, 8, 8\), got \(3, 8, 8\); a picture alone"),
    (torch.zeros(3, 3, 16, 16), r"must have shape \(N, 3, 8, 8\), got .*; load them with size=8"),
    (torch.full((3, 3, 8, 8), -1.0), r"floats in \[0, 1\], as annotate gives them, got torch.float32 in -1..-1"),
    (torch.full((3, 3, 8, 8), 255.0), r"floats in \[0, 1\], .* in 255..255"),
    (torch.full((3, 3, 8, 8), float("nan")), "in nan..nan|must be finite"),
    (torch.zeros(3, 3, 8, 8, dtype=torch.uint8), "got torch.uint8"),
    ([0.0], "must be a tensor .*, got list|must be a Tensor, not list"),
    (None, "must be a tensor .*, got NoneType|must be a Tensor, not NoneType"),
])  # fmt: skip
def test_wrong_conditions_are_one_clear_line_before_any_work(model, pictures, message, call):
    model.denoiser.forward = model.denoiser.embed = lambda *_, **__: pytest.fail("went to work")
    with pytest.raises((TypeError, ValueError), match=message) as error:
        call(model, pictures)
    assert "\n" not in str(error.value)


def test_conditions_are_one_for_each_prompt_and_those_of_the_branch_that_guides_are_checked_too(model):
    with pytest.raises(ValueError, match=r"a row for each of 3 prompts: 'control' has shape \(2, 3, 8, 8\)"):
        sample_controlnet(model, ["a shape"] * 3, torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"conditions must have shape \(N, 3, 8, 8\), got \(1, 3, 4, 4\)"):
        good, small = torch.zeros(1, 3, 8, 8), torch.zeros(3, 4, 4)
        sample(model, ["a shape"], conditions={"control": good}, null_conditions={"control": small})


@pytest.mark.parametrize("prompts", [None, 3, [None], torch.tensor(1.0)])
def test_what_is_no_prompt_is_named(model, prompts):
    with pytest.raises(ValueError, match="small text is told what to draw by prompts, got .*: give a list of sentences"):
        sample_controlnet(model, prompts, torch.zeros(1, 3, 8, 8))


def test_a_model_without_controlnet_says_so(small_model):
    for other in (small_text_to_image(), small_model):
        with pytest.raises(ValueError, match="has no ControlNet: train one with fine_tune_controlnet"):
            sample_controlnet(other, ["a shape"], torch.zeros(1, 3, 8, 8))


def test_a_copy_may_share_the_base_s_weights_and_leaves_them_as_they_are():
    base = small_text_to_image()
    copy = base.copy_denoiser(share_weights=True).float()
    ControlNetAdapter((16, 32))(copy)
    pairs = list(zip(base.denoiser.parameters(), copy.parameters()))
    assert all(ours.data_ptr() == theirs.data_ptr() and ours.requires_grad and not theirs.requires_grad for ours, theirs in pairs)
    assert base.denoiser.controlnet is None
    half = base.with_denoiser(base.copy_denoiser().to(torch.bfloat16))
    half.copy_denoiser(share_weights=True).float()
    assert {weight.dtype for weight in half.denoiser.parameters()} == {torch.bfloat16}
