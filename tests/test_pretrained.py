"""A model is one folder: what goes in comes out, stock diffusers reads it, and nothing unsafe or damaged is loaded."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline
from safetensors.torch import load_file, save_file

import difftuning as dt
from difftuning.dit import DiT
from difftuning.files import DamagedFileError, data_folder
from difftuning.loading import load_pretrained
from difftuning.pretrained import CARD, Pretrained

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return module.state_dict()


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def outputs(model: Pretrained) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(3, *model.latent_shape, generator=generator).to(model.dtype)
    with torch.no_grad():
        return model.denoiser(x_t, torch.tensor([0, 500, 999]), torch.tensor([0, 4, model.null_label]))


def pictures(n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def saved(small_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    small_model.save(folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path) -> Path:
    """A copy to damage, without checksums, as a folder that others have made."""
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    card = json.loads((copy / CARD).read_text())
    (copy / CARD).write_text(json.dumps({name: value for name, value in card.items() if name != "sha256"}))
    return copy


# Round trip


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


def test_loaded_models_are_tied_and_ready_to_sample(saved):
    loaded = load_pretrained(str(saved))
    assert len({id(block.norm1.emb) for block in loaded.denoiser.transformer.transformer_blocks}) == 1
    assert not any(module.training for part in (loaded.denoiser, loaded.autoencoder) for module in part.modules())
    assert not any(weight.requires_grad for weight in loaded.autoencoder.parameters())
    assert all(weight.requires_grad for weight in loaded.denoiser.parameters())
    assert loaded.device == torch.device("cpu")
    assert loaded.dtype == torch.float32


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


def test_a_folder_without_our_card_is_taken_for_one_trained_with_diffusers(small_model, copied):
    (copied / CARD).unlink()
    loaded = load_pretrained(copied)
    assert torch.equal(outputs(loaded), outputs(small_model))
    assert loaded.label_names == [str(label) for label in range(1000)]
    assert loaded.first_free_label == loaded.null_label == 1000


def test_imagenet_names_come_from_model_index(copied):
    (copied / CARD).unlink()
    index = json.loads((copied / "model_index.json").read_text())
    (copied / "model_index.json").write_text(json.dumps(index | {"id2label": {"0": "tench", "2": "shark"}}))
    assert load_pretrained(copied).label_names[:4] == ["tench", "1", "shark", "3"]


# Encoding and decoding


def test_encode_scales_the_mode_and_decode_undoes_it(small_model):
    autoencoder = small_model.autoencoder
    with torch.no_grad():
        expected = autoencoder.encode(pictures()).latent_dist.mean * autoencoder.config.scaling_factor
        picture = autoencoder.decode(expected / 0.5).sample.clamp(-1, 1)
    assert torch.equal(small_model.encode(pictures()), expected)
    assert torch.equal(small_model.decode(expected), picture)
    assert small_model.encode(pictures()).shape == (2, 4, 8, 8)


def test_decoded_images_are_float32_in_their_range(saved):
    half = load_pretrained(saved, dtype=torch.bfloat16)
    images = half.decode(100 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert images.dtype == torch.float32
    assert images.shape == (2, 3, 32, 32)
    assert float(images.abs().max()) <= 1
    assert half.encode(pictures()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 1, 32, 32), (3, 32, 32), (2, 3, 32, 40)])
def test_pictures_of_a_wrong_shape_are_refused(small_model, shape):
    with pytest.raises(ValueError, match=r"small takes images of shape \(N, 3, 32, 32\), got \(" + ", ".join(map(str, shape))):
        small_model.encode(torch.zeros(shape))


# Stock diffusers


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


def test_weights_that_do_not_fit_their_configuration_are_named(copied):
    (copied / CARD).unlink()
    path = copied / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_embeds_ada_norm": 7}))
    with pytest.raises(DamagedFileError, match="transformer: config.json and the weights do not fit each other"):
        load_pretrained(copied)


def test_a_card_that_is_no_object_is_named(copied):
    (copied / CARD).write_text("[]")
    with pytest.raises(DamagedFileError, match="difftuning.json holds no JSON object but list"):
        load_pretrained(copied)


@pytest.mark.parametrize("name", ["transformer/config.json", TRANSFORMER, "vae/diffusion_pytorch_model.safetensors"])
def test_a_saved_model_whose_files_were_altered_is_named(saved, tmp_path, name):
    """One bit, in the middle: the file may well be readable."""
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"{name} is missing or does not match its checksum in difftuning.json"):
        load_pretrained(copy)


def test_stock_pipeline_gets_no_weight_that_is_not_there(saved):
    """Every block's embedder is written out, although they are one in memory."""
    stored = load_file(saved / TRANSFORMER)
    table = "norm1.emb.class_embedder.embedding_table.weight"
    assert torch.equal(stored[f"transformer_blocks.0.{table}"], stored[f"transformer_blocks.1.{table}"])


# Refusals


def test_blocks_whose_embedders_have_drifted_apart_are_refused(copied):
    (copied / CARD).unlink()
    state = load_file(copied / TRANSFORMER)
    state["transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight"][3, 0] += 0.1
    save_file(state, copied / TRANSFORMER)
    with pytest.raises(ValueError, match="block 1 has another timestep or label embedder than block 0"):
        load_pretrained(copied)


def test_a_model_that_predicts_something_else_is_refused(copied):
    (copied / CARD).unlink()
    path = copied / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "v_prediction"}))
    with pytest.raises(ValueError, match="predicts 'v_prediction'"):
        load_pretrained(copied)


def test_a_model_that_moves_leaves_the_autoencoder_of_others_behind(small_model):
    other = small_model.with_denoiser(small_model.copy_denoiser())
    assert other.autoencoder is small_model.autoencoder
    other.to("meta")
    assert (other.device.type, other.autoencoder.device.type) == ("meta", "meta")
    assert small_model.autoencoder.device.type == small_model.device.type == "cpu"


def test_a_pickle_is_never_loaded(copied):
    state = load_file(copied / TRANSFORMER)
    (copied / TRANSFORMER).unlink()
    torch.save(state, copied / "transformer" / "diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="only diffusion_pytorch_model.bin, a pickle, which is never loaded"):
        load_pretrained(copied)


def test_missing_weights_are_named(copied):
    (copied / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="vae has no safetensors weights"):
        load_pretrained(copied)


@pytest.mark.parametrize("keep", [0, 5, 2000, -1])
def test_a_truncated_file_is_named(copied, keep):
    whole = (copied / TRANSFORMER).read_bytes()
    (copied / TRANSFORMER).write_bytes(whole[:keep])
    with pytest.raises(DamagedFileError, match="transformer/diffusion_pytorch_model.safetensors is damaged"):
        load_pretrained(copied)


@pytest.mark.parametrize("part", ["transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"])
def test_a_file_that_lacks_a_weight_is_not_filled_with_random_numbers(copied, part):
    state = load_file(copied / part)
    name = sorted(state)[0]
    del state[name]
    save_file(state, copied / part, metadata={"format": "pt"})
    with pytest.raises(DamagedFileError, match=f"{part.split('/')[0]} lack '{name}'"):
        load_pretrained(copied)


@pytest.mark.parametrize("name", [CARD, "transformer/config.json"])
def test_damaged_json_is_named(copied, name):
    (copied / name).write_text('{"name": ')
    with pytest.raises(DamagedFileError, match=f"{name} is not readable JSON"):
        load_pretrained(copied)


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} is no DiTPipeline folder: it has no model_index.json"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("source", ["large", "/nowhere/model", "some/where/else"])
def test_an_unknown_name_is_told_what_there_is(source):
    with pytest.raises(FileNotFoundError, match=f"no model '{source}': give 'tiny', an existing folder or a hub id"):
        load_pretrained(source)


def test_a_hub_id_that_the_hub_does_not_give_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"no folder 'nobody/nothing' here, and the hub did not give one \(\w+\)$"):
        load_pretrained("nobody/nothing")


def test_a_hub_id_is_fetched_without_its_pickles(monkeypatch, saved):
    asked = {}

    def snapshot(source, *, allow_patterns):
        asked[source] = allow_patterns
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load_pretrained("somebody/model").name == "small"
    assert asked == {"somebody/model": ["*.json", "*.safetensors"]}


@pytest.mark.parametrize("device", ["cuda:7", "warp"])
def test_an_unknown_device_is_one_clear_line(saved, device):
    if torch.cuda.is_available() and torch.cuda.device_count() > 7:
        pytest.skip("this machine has eight GPUs")
    with pytest.raises(ValueError, match=f"^device '{device}' is not there; this machine has cpu[^\n]*$"):
        load_pretrained(saved, device=device)


def test_the_device_is_checked_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="device 'warp' is not there"):
        load_pretrained(tmp_path / "absent", device="warp")


def test_to_refuses_an_unknown_device_and_stays_where_it_is(small_model):
    with pytest.raises(ValueError, match="device 'warp' is not there"):
        small_model.to("warp")
    assert small_model.to("cpu").device == torch.device("cpu")


def test_more_names_than_rows_are_refused(small_model):
    with pytest.raises(ValueError, match="1001 labels do not fit into a table whose null row is 1000"):
        small_model.with_denoiser(small_model.copy_denoiser(), first_free_label=1001)


# Writing


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


# The denoiser by itself, as section 2 of the design calls it


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


def test_a_label_that_the_table_lacks_is_named(small_model):
    with pytest.raises(
        ValueError, match=rf"labels must be in 0..{small_model.null_label} .the null label., got \[0, {small_model.null_label + 1}\]"
    ):
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


def test_weights_that_the_configuration_has_no_place_for_are_not_dropped(small_model, tmp_path):
    """A folder of stock diffusers, without checksums."""
    small_model.save(tmp_path)
    (tmp_path / "difftuning.json").unlink()
    path = tmp_path / "transformer" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"num_layers": 1}))
    with pytest.raises(DamagedFileError, match="has no place for the weight 'transformer_blocks.1"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("entry", [{"label_names": 5}, {"label_names": [1]}, {"first_free_label": -1}, {"frequency_shift": "x"}])
def test_a_card_with_an_entry_of_another_kind_is_named(small_model, tmp_path, entry):
    small_model.save(tmp_path)
    card = json.loads((tmp_path / "difftuning.json").read_text())
    (tmp_path / "difftuning.json").write_text(json.dumps(card | entry))
    with pytest.raises(DamagedFileError, match=f"difftuning.json is damaged .{next(iter(entry))} is"):
        load_pretrained(tmp_path)


def test_a_precision_that_torch_does_not_know_is_refused(saved):
    for dtype in ("float16", torch.int32):
        with pytest.raises(ValueError, match="dtype must be a precision of torch such as torch.bfloat16"):
            load_pretrained(saved, dtype=dtype)
