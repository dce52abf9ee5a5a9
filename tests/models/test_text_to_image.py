"""Stable Diffusion's layout: the seam's protocol, stock pipelines that draw the same, folders of others that load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, PNDMScheduler, StableDiffusionPipeline

from difftuning.models.adapters.apply import apply_adapter
from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.models.text_to_image import TextToImage, build_text_to_image, matched_scheduler
from difftuning.sampling import SamplingStep, sample
from small import small_text_to_image

PROMPTS = ["a small shape", "a bright shape leaning left", "a small shape"]


@pytest.fixture(scope="module")
def base() -> Pretrained:
    return small_text_to_image()


@pytest.fixture(scope="module")
def saved(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    base.save(folder)
    return folder


def drawn(model: Pretrained, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures, and the noise that they began with."""
    steps: list[SamplingStep] = []
    images = sample(model, PROMPTS, steps=5, callback=steps.append, **options)
    return images, steps[0].x_t


def by_stock(folder: Path, noise: torch.Tensor, guidance: float, **options) -> torch.Tensor:
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(PROMPTS, latents=noise, num_inference_steps=5, guidance_scale=guidance, output_type="pt", **options).images
    return images * 2 - 1


def test_it_says_of_itself_what_every_denoiser_says(base):
    assert base.takes_prompts and not base.learned_variance and base.latent_shape == (4, 4, 4) and base.null_label == 0
    x_t, t = torch.randn(3, 4, 4, 4), torch.tensor([0, 500, 999])
    with torch.no_grad():
        told = {"embedded": base.denoiser.embed(PROMPTS), "tokens": base.denoiser.tokens(PROMPTS)}
        outputs = {name: base.predict(x_t, t, None, text=text) for name, text in told.items()}
    assert told["embedded"].shape == (3, 12, 16) and told["tokens"].dtype == torch.int64
    assert outputs["tokens"].shape == (3, 4, 4, 4) and torch.equal(outputs["embedded"], outputs["tokens"])


def test_a_dits_adapter_is_refused_before_anything_changes():
    denoiser = small_text_to_image().denoiser
    before = {name: weight.requires_grad for name, weight in denoiser.named_parameters()}
    with pytest.raises(ValueError, match="lora goes onto a DiT; a text-to-image model learns by fine_tune_controlnet"):
        apply_adapter(denoiser, "lora")
    assert {name: weight.requires_grad for name, weight in denoiser.named_parameters()} == before and denoiser.adapter is None


def test_the_schedule_fits_the_latents():
    scheduler = matched_scheduler(8)
    linear = (1 - torch.linspace(1e-4, 0.02, 1000).double()).cumprod(0)
    kept = scheduler.alphas_cumprod.double()
    torch.testing.assert_close(kept / (1 - kept), 16 * linear / (1 - linear), rtol=2e-2, atol=0)  # diffusers' table is float32


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_stock_pipelines_draw_the_same_pictures(base, saved, guidance):
    images, noise = drawn(base, guidance=guidance)
    assert float((by_stock(saved, noise, guidance) - images).abs().max()) < 1e-4
    assert not torch.allclose(images[0], images[1])


def test_a_saved_model_loads_to_the_same_bits(base, saved):
    again = load_pretrained(saved)
    assert again.name == "small text" and again.fingerprint == base.fingerprint and again.label_names == []
    assert torch.equal(drawn(again)[0], drawn(base)[0])
    again.save(saved)  # over itself
    assert {path.suffix for path in saved.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_the_null_label_is_the_empty_prompt(base):
    nulls = torch.zeros(2, dtype=torch.int64)
    assert torch.equal(sample(base, nulls, steps=2), sample(base, ["", ""], steps=2))


def test_a_folder_that_stock_diffusers_has_written_loads(base, tmp_path):
    """As Stable Diffusion 1.5 comes: PNDM with a scaled linear schedule, steps offset by 1."""
    scheduler = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1)
    parts = base.denoiser.pipeline(base.autoencoder, scheduler, torch.float32).components
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(tmp_path / "stock")
    model = load_pretrained(tmp_path / "stock")
    assert model.takes_prompts and model.label_names == []
    torch.testing.assert_close(model.diffusion.betas, scheduler.betas.double())
    images, noise = drawn(model)
    model.save(tmp_path / "ours")  # with DDIM, by which we sample
    assert float((by_stock(tmp_path / "ours", noise, 1.5) - images).abs().max()) < 1e-4


def test_a_pipeline_with_a_second_text_encoder_is_refused(saved, tmp_path):
    """As StableDiffusionXL's folders have one; the settings among a pipeline's parts are nothing to refuse."""
    shutil.copytree(saved, tmp_path / "two")
    index = json.loads((tmp_path / "two" / "model_index.json").read_text()) | {"force_zeros_for_empty_prompt": True}
    (tmp_path / "two" / "model_index.json").write_text(json.dumps(index | {"image_encoder": [None, None]}))
    (tmp_path / "two" / "difftuning.json").unlink()
    load_pretrained(tmp_path / "two")
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    (tmp_path / "two" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"has a CLIPTextModelWithProjection \(text_encoder_2\): .* with one text encoder"):
        load_pretrained(tmp_path / "two")


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
def test_a_folder_without_its_text_encoder_is_named(saved, tmp_path, part):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    (folder / "difftuning.json").unlink()
    shutil.rmtree(folder / part)
    with pytest.raises(FileNotFoundError, match=f"copy/{part}"):
        load_pretrained(folder)


def test_weights_in_a_pickle_are_never_read(saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    (folder / "difftuning.json").unlink()
    (folder / "text_encoder" / "model.safetensors").rename(folder / "text_encoder" / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"text_encoder has only pytorch_model.bin, a pickle, which is never loaded"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([3, 4], "is told what to draw by prompts, got 3: give a list of sentences"), (torch.tensor([2]), "got tensor")],
)
def test_labels_are_no_prompts(base, labels, message):
    with pytest.raises(ValueError, match=message):
        sample(base, labels, steps=2)


def test_condition_pictures_need_a_controlnet(base):
    with pytest.raises(ValueError, match="has no ControlNet: train one with fine_tune_controlnet"):
        sample(base, ["a shape"], steps=2, conditions={"control": torch.zeros(1, 3, 8, 8)})


@pytest.mark.parametrize(("options", "named"), [({"widths": (8, 10)}, "divisible"), ({"latent_shape": (4, 3, 3)}, "3x3")])
def test_sizes_that_do_not_fit_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        build_text_to_image(["a"], **{"widths": (8, 16), "num_heads": 2, "text_width": 16, **options})


def test_prompts_are_embedded_as_stock_pipelines_embed_them(base, saved):
    embedded, empty = DiffusionPipeline.from_pretrained(saved).encode_prompt(PROMPTS, "cpu", 1, True)
    assert torch.equal(base.denoiser.embed(PROMPTS), embedded) and torch.equal(base.denoiser.embed([""]), empty[:1])
    assert isinstance(base.denoiser, TextToImage)
