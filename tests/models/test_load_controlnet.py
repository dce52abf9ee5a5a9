"""A ControlNet kept by itself, in diffusers' layout, comes back beside its base, and beside no other."""

from __future__ import annotations

import huggingface_hub
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

from difftuning.models.controlnet import ControlNetAdapter
from difftuning.models.load_controlnet import load_controlnet
from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.models.text_to_image import build_text_to_image
from difftuning.sampling import sample_controlnet
from small import small_pretrained, small_text_to_image

PROMPTS = ["a small shape"] * 2


@pytest.fixture(scope="module")
def obeying() -> Pretrained:
    """A base with a ControlNet whose zero convolutions are open."""
    model = small_text_to_image()
    ControlNetAdapter((16, 32))(model.denoiser)
    generator = torch.Generator().manual_seed(0)
    for weight in model.denoiser.controlnet.parameters():
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def folder(obeying, tmp_path_factory):
    place = tmp_path_factory.mktemp("kept") / "controlnet"
    obeying.denoiser.controlnet.save_pretrained(place)
    return place


def drawn(model: Pretrained) -> torch.Tensor:
    conditions = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return sample_controlnet(model, PROMPTS, conditions, steps=3, seed=0, progress=False)


def test_a_base_with_a_controlnet_from_a_folder_draws_what_the_whole_model_draws(obeying, folder):
    base = small_text_to_image()
    assert torch.equal(drawn(load_controlnet(base, folder)), drawn(obeying))
    assert base.denoiser.controlnet is None, "the base stays as it is"


def test_a_controlnet_takes_another_s_place(obeying, folder):
    other = small_text_to_image()
    ControlNetAdapter((16, 32), seed=5)(other.denoiser)
    assert torch.equal(drawn(load_controlnet(other, folder)), drawn(obeying))
    assert not torch.equal(drawn(other), drawn(obeying))


def test_it_has_the_base_s_precision_and_no_gradient(folder):
    base = small_text_to_image()
    base.denoiser.to(torch.bfloat16)
    weights = [*load_controlnet(base, folder).denoiser.controlnet.parameters()]
    assert {weight.dtype for weight in weights} == {torch.bfloat16} and not any(weight.requires_grad for weight in weights)


def test_a_hub_id_is_fetched_without_its_pickles(monkeypatch, obeying, folder):
    asked = {}

    def snapshot(source, *, revision, allow_patterns, ignore_patterns):
        asked[source] = allow_patterns + ignore_patterns
        return str(folder)

    monkeypatch.setattr("difftuning.support.hub.require_on_hub", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert torch.equal(drawn(load_controlnet(small_text_to_image(), "somebody/controlnet")), drawn(obeying))
    assert set(asked) == {"somebody/controlnet"} and not any(".bin" in pattern for pattern in asked["somebody/controlnet"])


def save_stock(obeying: Pretrained, controlnet, folder) -> None:
    """As stock diffusers saves a pipeline with these ControlNets."""
    own, quiet = obeying.denoiser, {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    StableDiffusionControlNetPipeline(
        obeying.autoencoder, own.text_encoder, own.tokenizer, own.unet, controlnet, obeying.scheduler, **quiet
    ).save_pretrained(folder)  # fmt: skip


def test_a_stock_pipeline_s_folder_loads_and_draws_what_the_pipeline_draws(obeying, tmp_path):
    save_stock(obeying, obeying.denoiser.controlnet, tmp_path)
    assert not (tmp_path / "difftuning.json").exists()
    model, conditions, steps = load_pretrained(tmp_path), torch.rand(2, 3, 8, 8), []
    images = sample_controlnet(model, PROMPTS, conditions, steps=3, guidance=2, callback=steps.append, progress=False)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    stock = pipeline(
        PROMPTS, image=conditions, latents=steps[0].x_t, num_inference_steps=3, guidance_scale=2, output_type="pt"
    ).images  # fmt: skip
    assert float((2 * stock - 1 - images).abs().max()) < 1e-4
    assert not torch.allclose(images, sample_controlnet(model, PROMPTS, 1 - conditions, steps=3, guidance=2, progress=False), atol=1e-3)


def test_a_pipeline_with_two_controlnets_is_refused(obeying, tmp_path):
    save_stock(obeying, [obeying.denoiser.controlnet] * 2, tmp_path)
    with pytest.raises(
        ValueError, match=r"has a MultiControlNetModel \(controlnet\): .* at most one ControlNetModel are read; save"
    ) as error:
        load_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_a_base_that_takes_no_prompts_is_refused(folder):
    with pytest.raises(ValueError, match="needs a text-to-image base .* is told labels"):
        load_controlnet(small_pretrained(), folder)


def test_a_controlnet_for_another_unet_or_autoencoder_is_refused(obeying, tmp_path):
    wide = build_text_to_image(["a shape"], widths=(16, 32), num_heads=2, text_width=16, text_layers=1, latent_shape=(4, 4, 4))
    ControlNetModel.from_unet(wide.unet, conditioning_embedding_out_channels=(16, 32)).save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match=r"another UNet than small text's: block_out_channels is \[16, 32\], not \[8, 16\]"):
        load_controlnet(small_text_to_image(), tmp_path / "wide")
    ControlNetModel.from_unet(obeying.denoiser.unet, conditioning_embedding_out_channels=(16, 32, 96)).save_pretrained(tmp_path / "deep")
    with pytest.raises(ValueError, match="shrinks pictures by 4, the autoencoder of small text by 2"):
        load_controlnet(small_text_to_image(), tmp_path / "deep")


def test_what_is_no_controlnet_is_one_clear_line(tmp_path):
    for wrong, said in (("nowhere", "^no ControlNet 'nowhere': give 'tiny-edge-plain'"), (tmp_path, "it has no config.json")):
        with pytest.raises(FileNotFoundError, match=said):
            load_controlnet(small_text_to_image(), wrong)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="a pickle, which is never loaded"):
        load_controlnet(small_text_to_image(), tmp_path)
