"""A model is one folder: what goes in comes out, stock diffusers reads it, and nothing unsafe or damaged is loaded."""

from __future__ import annotations

import json
import os

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline
from safetensors.torch import load_file

import difftuning as dt
from difftuning.models import pretrained as pretrained_module
from difftuning.models.dit import DiT
from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.support.world import data_folder
from tests.models.helpers import TRANSFORMER, outputs


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return module.state_dict()


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def pictures(n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_saved_model_comes_back_bit_for_bit(small_model, saved):
    loaded = dt.load_pretrained(saved)
    assert torch.equal(outputs(loaded), outputs(small_model))
    assert torch.equal(loaded.encode(pictures()), small_model.encode(pictures()))
    latents = torch.randn(2, *small_model.latent_shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded.decode(latents), small_model.decode(latents))
    assert torch.equal(loaded.diffusion.betas, small_model.diffusion.betas)
    assert loaded.label_names == ["ring", "cross", "bar", "dot", "hook"]
    assert (loaded.first_free_label, loaded.null_label, loaded.latent_shape) == (5, 1000, (4, 8, 8))
    assert loaded.name == "small"
    assert loaded.fingerprint == small_model.fingerprint
    assert loaded.encoder_fingerprint == small_model.encoder_fingerprint


def test_saving_leaves_the_model_as_it_was(small_model, tmp_path):
    before = outputs(small_model)
    small_model.save(tmp_path / "m", dtype=torch.float16)
    assert torch.equal(outputs(small_model), before)
    assert small_model.dtype == torch.float32
    assert small_model.autoencoder.dtype == torch.float32


def test_half_precision_files_have_one_fingerprint_however_they_are_read(small_model, tmp_path):
    small_model.save(tmp_path / "half", dtype=torch.float16)
    stored = load_file(tmp_path / "half" / TRANSFORMER)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    single, half = (load_pretrained(tmp_path / "half", dtype=dtype) for dtype in (None, torch.float16))
    assert (single.dtype, half.dtype) == (torch.float32, torch.float16)
    assert single.fingerprint == half.fingerprint
    assert single.encoder_fingerprint == half.encoder_fingerprint
    single.save(tmp_path / "again")
    assert load_pretrained(tmp_path / "again").fingerprint == half.fingerprint
    torch.testing.assert_close(outputs(single), outputs(small_model), rtol=0.05, atol=0.05)


def test_fingerprint_sees_a_single_changed_number(small_model):
    changed = small_model.with_denoiser(small_model.copy_denoiser())
    assert changed.fingerprint == small_model.fingerprint
    with torch.no_grad():
        changed.denoiser.label_table[700, 3] += 1e-3
    assert changed.fingerprint != small_model.fingerprint
    assert changed.encoder_fingerprint == small_model.encoder_fingerprint


def test_fingerprint_sees_the_forward_process_and_the_sinusoids(small_model):
    """A bank or run of other betas or frequencies is another one, though the weights be the same."""
    others = [
        small_model.with_denoiser(DiT(small_model.copy_denoiser().transformer, frequency_shift=0)),
        Pretrained(small_model.copy_denoiser(), small_model.autoencoder, DDIMScheduler(beta_schedule="scaled_linear"), label_names=["a"]),
    ]
    assert len({small_model.fingerprint, *(other.fingerprint for other in others)}) == 3


@pytest.mark.parametrize("frequency_shift", [0, 1])
def test_frequency_convention_travels_with_the_folder(small_model, tmp_path, frequency_shift):
    denoiser = DiT(small_model.copy_denoiser().transformer, frequency_shift=frequency_shift)
    model = small_model.with_denoiser(denoiser)
    model.save(tmp_path / "m")
    loaded = load_pretrained(tmp_path / "m")
    assert loaded.denoiser.frequency_shift == frequency_shift
    assert torch.equal(outputs(loaded), outputs(model))


def test_names_and_free_rows_travel_with_the_folder(small_model, tmp_path):
    model = small_model.with_denoiser(small_model.copy_denoiser(), label_names=["a", "b"], first_free_label=7, name="tuned")
    model.save(tmp_path / "m")
    loaded = load_pretrained(tmp_path / "m")
    assert (loaded.label_names, loaded.first_free_label, loaded.name) == (["a", "b"], 7, "tuned")


@pytest.mark.parametrize("schedule", ["scaled_linear", "squaredcos_cap_v2"])
def test_other_betas_are_taken_from_the_scheduler(small_model, schedule):
    scheduler = DDIMScheduler(num_train_timesteps=100, beta_schedule=schedule)
    model = Pretrained(small_model.copy_denoiser(), small_model.autoencoder, scheduler, label_names=["a"])
    torch.testing.assert_close(model.diffusion.alphas_cumprod.float(), scheduler.alphas_cumprod)


def test_betas_rescaled_to_zero_snr_are_the_scheduler_s(small_model):
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, rescale_betas_zero_snr=True)
    model = Pretrained(small_model.copy_denoiser(), small_model.autoencoder, scheduler, label_names=["a"])
    torch.testing.assert_close(model.diffusion.alphas_cumprod.float(), scheduler.alphas_cumprod, atol=1e-6, rtol=1e-4)
    assert float(model.diffusion.alphas_cumprod[-1]) < 1e-6


def test_encode_scales_the_mode_and_decode_undoes_it(small_model):
    autoencoder = small_model.autoencoder
    with torch.no_grad():
        expected = autoencoder.encode(pictures()).latent_dist.mean * autoencoder.config.scaling_factor
        picture = autoencoder.decode(expected / 0.5).sample.clamp(-1, 1)
    assert torch.equal(small_model.encode(pictures()), expected)
    assert torch.equal(small_model.decode(expected), picture)
    assert small_model.encode(pictures()).shape == (2, 4, 8, 8)


def test_large_pictures_are_decoded_a_few_at_a_time_to_the_same(small_model, monkeypatch):
    latents = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole, sizes, decode = small_model.decode(latents), [], small_model.autoencoder.decode
    monkeypatch.setattr(small_model.autoencoder, "decode", lambda part: sizes.append(len(part)) or decode(part))
    monkeypatch.setattr(pretrained_module, "DECODED_PIXELS", 2 * small_model.image_size**2)
    torch.testing.assert_close(small_model.decode(latents), whole)
    assert sizes == [2, 2, 1]


def test_decoded_images_are_float32_in_their_range(saved):
    half = load_pretrained(saved, dtype=torch.bfloat16)
    images = half.decode(100 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert images.dtype == torch.float32
    assert images.shape == (2, 3, 32, 32)
    assert float(images.abs().max()) <= 1
    assert half.encode(pictures()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 1, 32, 32), (3, 32, 32), (2, 3, 32, 40)])
def test_pictures_of_a_wrong_shape_are_refused(small_model, shape):
    with pytest.raises(ValueError, match=r"images must have shape \(N, 3, 32, 32\), got \(" + ", ".join(map(str, shape))):
        small_model.encode(torch.zeros(shape))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_stock_pipeline_draws_the_same_images(small_model, saved, guidance):
    """`DiTPipeline` knows nothing of difftuning; both get the same noise, one generator for each picture."""
    labels = [0, 3, 4]
    seeds = torch.randint(2**62, (3,), generator=torch.Generator().manual_seed(11)).tolist()
    pipeline = DiTPipeline.from_pretrained(saved)
    pipeline.transformer.eval()
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    theirs = pipeline(labels, guidance_scale=guidance, num_inference_steps=8, generator=generators, output_type="np").images
    ours = dt.sample(small_model, labels, steps=8, guidance=guidance, seed=11)
    assert float(ours.std()) > 0.05  # pictures, not a flat grey
    torch.testing.assert_close(ours, torch.from_numpy(theirs).permute(0, 3, 1, 2) * 2 - 1, rtol=0, atol=1e-4)


def test_stock_pipeline_draws_the_tiny_worlds_images_from_its_own_folder():
    """The shipped bundle as any user of diffusers opens it."""
    model, folder = load_pretrained("tiny"), data_folder() / "models" / "tiny"
    labels = [model.label_names.index(name) for name in ("dress", "bag", "letter A")]
    seeds = torch.randint(2**62, (3,), generator=torch.Generator().manual_seed(5)).tolist()
    pipeline = DiTPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    theirs = pipeline(labels, guidance_scale=1.5, num_inference_steps=10, generator=generators, output_type="np").images
    ours = dt.sample(model, labels, steps=10, guidance=1.5, seed=5)
    assert float(ours.std()) > 0.2  # pictures, not a flat grey
    torch.testing.assert_close(ours, torch.from_numpy(theirs).permute(0, 3, 1, 2) * 2 - 1, rtol=0, atol=1e-3)


def test_stock_pipeline_knows_the_classes_by_name(saved):
    pipeline = DiTPipeline.from_pretrained(saved)
    assert pipeline.get_label_ids(["ring", "hook"]) == [0, 4]


def test_stock_pipeline_gets_no_weight_that_is_not_there(saved):
    """Every block's embedder is written out, although they are one in memory."""
    stored = load_file(saved / TRANSFORMER)
    table = "norm1.emb.class_embedder.embedding_table.weight"
    assert torch.equal(stored[f"transformer_blocks.0.{table}"], stored[f"transformer_blocks.1.{table}"])


def test_a_model_that_moves_leaves_the_autoencoder_of_others_behind(small_model, monkeypatch):
    monkeypatch.setattr("difftuning.models.pretrained.checked_device", torch.device)  # the only second device that every machine has
    other = small_model.with_denoiser(small_model.copy_denoiser())
    assert other.autoencoder is small_model.autoencoder
    other.to("meta")
    assert (other.device.type, other.autoencoder.device.type) == ("meta", "meta")
    assert small_model.autoencoder.device.type == small_model.device.type == "cpu"


def test_to_refuses_an_unknown_device_and_stays_where_it_is(small_model):
    for device in ("warp", "meta"):  # tensors on meta have no numbers
        with pytest.raises(ValueError, match=f"^device '{device}' is not there; this machine has cpu[^\n]*$"):
            small_model.to(device)
    assert small_model.to("cpu").device == torch.device("cpu")


def test_what_is_no_number_is_named_before_it_is_coded(small_model):
    latents = torch.zeros(2, *small_model.latent_shape)
    latents[1, 0, 0, :2] = torch.tensor([torch.nan, torch.inf])
    with pytest.raises(ValueError, match="^latents must be finite: 2 of 512 numbers are NaN or infinity$"):
        small_model.decode(latents)


def test_an_autoencoder_that_overflows_is_named(saved):
    model = load_pretrained(saved)
    with torch.no_grad():
        model.autoencoder.decoder.conv_out.bias.fill_(torch.inf)
        model.autoencoder.encoder.conv_out.bias.fill_(torch.inf)
    for use in (lambda: model.decode(torch.zeros(1, 4, 8, 8)), lambda: model.encode(pictures())):
        with pytest.raises(FloatingPointError, match="small's autoencoder gives .* of NaN or infinity in torch.float32"):
            use()


def test_more_names_than_rows_are_refused(small_model):
    with pytest.raises(ValueError, match="1001 labels do not fit into a table whose null row is 1000"):
        small_model.with_denoiser(small_model.copy_denoiser(), label_names=[str(n) for n in range(1001)], first_free_label=0)
    with pytest.raises(ValueError, match="1001 labels do not fit into a table whose null row is 1000"):
        small_model.with_denoiser(small_model.copy_denoiser(), first_free_label=1001)


def test_a_model_replaces_a_model(small_model, other_model, tmp_path):
    small_model.save(tmp_path / "m")
    leftover = tmp_path / "m" / "vae" / "diffusion_pytorch_model.fp16.safetensors"
    leftover.write_text("of the old one")
    other_model.save(tmp_path / "m")
    assert load_pretrained(tmp_path / "m").fingerprint == other_model.fingerprint
    assert not leftover.exists()
    assert os.listdir(tmp_path) == ["m"]  # no scratch folder stays


def test_a_foreign_file_inside_a_model_is_not_swept_away(small_model, tmp_path):
    small_model.save(tmp_path / "m")
    (tmp_path / "m" / "transformer" / "mine.txt").write_text("notes")
    with pytest.raises(FileExistsError, match=r"not a model \(transformer/mine.txt\)"):
        small_model.save(tmp_path / "m")
    assert (tmp_path / "m" / "transformer" / "mine.txt").read_text() == "notes"


def test_a_foreign_folder_or_file_is_never_overwritten(small_model, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for name in ("thesis", "file"):
        with pytest.raises(FileExistsError, match=f"{name} holds something that is not a model .*; choose another folder"):
            small_model.save(tmp_path / name)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.parametrize("kept", [".git", "README.md"])
def test_a_clone_of_a_model_keeps_what_is_beside_the_model(small_model, tmp_path, kept):
    small_model.save(tmp_path)
    (tmp_path / kept).write_text("of the clone")
    with pytest.raises(FileExistsError, match=f"not a model .*{kept}"):
        small_model.save(tmp_path)
    assert (tmp_path / kept).read_text() == "of the clone"


def test_a_saved_model_does_not_say_where_its_parts_came_from(saved, tmp_path):
    load_pretrained(saved).save(tmp_path / "again")
    for name in ("vae", "transformer"):
        assert "_name_or_path" not in json.loads((tmp_path / "again" / name / "config.json").read_text())


def test_an_empty_folder_is_used(small_model, tmp_path):
    small_model.save(tmp_path)
    assert load_pretrained(tmp_path).fingerprint == small_model.fingerprint


def test_a_save_that_fails_leaves_the_old_model(small_model, other_model, tmp_path, monkeypatch):
    small_model.save(tmp_path / "m")
    monkeypatch.setattr(AutoencoderKL, "save_pretrained", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        other_model.save(tmp_path / "m")
    assert load_pretrained(tmp_path / "m").fingerprint == small_model.fingerprint
    assert os.listdir(tmp_path) == ["m"]


def test_copies_are_independent(small_model):
    copy = small_model.copy_denoiser()
    assert same_weights(copy, small_model.denoiser)
    before = small_model.fingerprint
    with torch.no_grad():
        copy.label_table.zero_()
    assert small_model.fingerprint == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_denoiser_takes_what_encode_and_q_sample_give_in_every_precision(saved, dtype):
    model = load_pretrained(saved, dtype=dtype)
    x_t = model.diffusion.q_sample(model.encode(pictures()), 500, torch.randn(len(pictures()), *model.latent_shape))
    times, nulls = torch.full((len(x_t),), 500), torch.full((len(x_t),), model.null_label)
    found = model.denoiser(x_t, times, nulls)
    assert found.dtype == dtype and found.shape == (len(x_t), 2 * x_t.shape[1], *x_t.shape[2:])
    for t in (500, torch.tensor(500)):
        assert torch.equal(model.denoiser(x_t, t, nulls), found)
    assert torch.equal(model.denoiser(x_t.double(), times, model.null_label), found)
    assert model.denoiser(x_t[:0], times[:0], nulls[:0]).shape == (0, *found.shape[1:])


def test_a_label_that_the_table_lacks_is_refused(small_model):
    with pytest.raises(IndexError):
        small_model.denoiser(torch.zeros(2, *small_model.latent_shape), 5, torch.tensor([0, small_model.null_label + 1]))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda images: ((images + 1) * 127.5).byte(), "must be float in .-1, 1., got torch.uint8: divide"),
        (lambda images: (images + 1) * 127.5, "must lie in .-1, 1., got .*rescale"),
        (lambda images: images * torch.nan, "hold NaN or infinity"),
    ],
)
def test_images_of_another_range_are_not_encoded(small_model, spoil, said):
    with pytest.raises(ValueError, match=said):
        small_model.encode(spoil(pictures()))
    assert len(small_model.encode(pictures()[:0])) == 0
