"""Models are loaded from safetensors alone, and whatever is damaged, missing or foreign is named."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from difftuning.data.tasks import load_task
from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import CARD
from difftuning.support.files import DamagedFileError
from tests.models.helpers import TRANSFORMER, outputs


def test_loaded_models_are_tied_and_ready_to_sample(saved):
    loaded = load_pretrained(str(saved))
    assert len({id(block.norm1.emb) for block in loaded.denoiser.transformer.transformer_blocks}) == 1
    assert not any(module.training for part in (loaded.denoiser, loaded.autoencoder) for module in part.modules())
    assert not any(weight.requires_grad for weight in loaded.autoencoder.parameters())
    assert all(weight.requires_grad for weight in loaded.denoiser.parameters())
    assert loaded.device == torch.device("cpu")
    assert loaded.dtype == torch.float32


def test_a_folder_without_our_card_is_taken_for_one_trained_with_diffusers(small_model, copied):
    (copied / CARD).unlink()
    loaded = load_pretrained(copied)
    assert torch.equal(outputs(loaded), outputs(small_model))
    assert loaded.label_names == [*small_model.label_names, *(str(label) for label in range(5, 1000))]  # as stock diffusers has them
    assert loaded.first_free_label == loaded.null_label == 1000


def test_imagenet_names_come_from_model_index(copied):
    (copied / CARD).unlink()
    index = json.loads((copied / "model_index.json").read_text())
    (copied / "model_index.json").write_text(json.dumps(index | {"id2label": {"0": "tench", "2": "shark"}}))
    assert load_pretrained(copied).label_names[:4] == ["tench", "1", "shark", "3"]


def test_weights_that_do_not_fit_their_configuration_are_named(copied):
    (copied / CARD).unlink()
    path = copied / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_embeds_ada_norm": 7}))
    with pytest.raises(DamagedFileError, match="transformer/config.json makes no DiTTransformer2DModel of what lies beside it"):
        load_pretrained(copied)


def test_a_card_that_is_no_object_is_named(copied):
    (copied / CARD).write_text("[]")
    with pytest.raises(DamagedFileError, match="difftuning.json holds no JSON object"):
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


def test_a_card_that_was_altered_is_named(saved, tmp_path):
    """Names and free rows have a checksum, too; a card without checksums, as of earlier versions, is read as it is."""
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    card = json.loads((copy / CARD).read_text())
    (copy / CARD).write_text(json.dumps(card | {"label_names": card["label_names"][::-1]}))
    with pytest.raises(DamagedFileError, match="difftuning.json was altered since it was saved; restore it, or save the model again"):
        load_pretrained(copy)
    del card["sha256"][CARD]
    (copy / CARD).write_text(json.dumps(card))
    assert load_pretrained(copy).label_names == card["label_names"]


@pytest.mark.parametrize("part", ["transformer", "vae"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_named(copied, part, value):
    path = copied / part / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    name = sorted(state)[-1]
    state[name].view(-1)[-1] = value
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(DamagedFileError, match=rf"{part} hold NaN or infinity in torch.float32 \('{re.escape(name)}'\): [^\n]+$"):
        load_pretrained(copied)


PARTS = ["model_index.json", "difftuning.json", "transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"]


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("text", ["[" * 10**5, '{"a": 1' + "0" * 5000 + "}", "[]", "null"], ids=["nested", "long number", "list", "null"])
def test_json_that_no_program_wrote_is_named(copied, name, text):
    if name == "model_index.json":
        (copied / CARD).unlink()  # it is read for the names alone
    (copied / name).write_text(text)
    with pytest.raises(DamagedFileError, match=f"{name} (is not readable JSON|holds no JSON object)[^\n]*$"):
        load_pretrained(copied)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("transformer/config.json", {"num_layers": "x"}),
        ("transformer/config.json", {"num_layers": 10**9}),
        ("transformer/config.json", {"attention_head_dim": None}),
        ("transformer/config.json", {"in_channels": [4]}),
        ("transformer/config.json", {"sample_size": 3}),
        ("transformer/config.json", {"norm_eps": "x"}),
        ("transformer/config.json", {"activation_fn": 5}),
        ("vae/config.json", {"block_out_channels": 8}),
        ("vae/config.json", {"layers_per_block": 10**9}),
        ("vae/config.json", {"norm_num_groups": 0}),
        ("vae/config.json", {"scaling_factor": 0}),
        ("vae/config.json", {"scaling_factor": "x"}),
        ("scheduler/scheduler_config.json", {"beta_end": "x"}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": {}}),
    ],
    ids=str,
)
def test_a_configuration_of_wrong_types_is_named(copied, name, entry):
    path = copied / name
    path.write_text(json.dumps(json.loads(path.read_text()) | entry))
    with pytest.raises(DamagedFileError, match=f"{name} (is damaged|makes no )[^\n]+$"):
        load_pretrained(copied)


@pytest.mark.parametrize("kept", [[], ["transformer"]])
def test_files_of_half_precision_alone_are_loaded(small_model, copied, kept):
    """As `save_pretrained(variant="fp16")` writes them; where both are there, the whole ones are taken."""
    for part in ("transformer", "vae"):
        whole = copied / part / "diffusion_pytorch_model.safetensors"
        half = {name: tensor.half() for name, tensor in load_file(whole).items()}
        save_file(half, whole.with_name("diffusion_pytorch_model.fp16.safetensors"), metadata={"format": "pt"})
        if part not in kept:
            whole.unlink()
    loaded = load_pretrained(copied)
    assert loaded.dtype == torch.float32 and (loaded.fingerprint == small_model.fingerprint) == bool(kept)
    torch.testing.assert_close(outputs(loaded), outputs(small_model), rtol=0.05, atol=0.05)


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
    with pytest.raises(DamagedFileError, match="makes no DiTTransformer2DModel .*transformer/diffusion_pytorch_model.safetensors"):
        load_pretrained(copied)


@pytest.mark.parametrize("part", ["transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"])
def test_a_file_that_lacks_a_weight_is_not_filled_with_random_numbers(copied, part):
    state = load_file(copied / part)
    name = sorted(state)[0]
    del state[name]
    save_file(state, copied / part, metadata={"format": "pt"})
    with pytest.raises(DamagedFileError, match=f"{part.split('/')[0]} do not fit: only one of them has '{name}'"):
        load_pretrained(copied)


@pytest.mark.parametrize("name", [CARD, "transformer/config.json"])
def test_damaged_json_is_named(copied, name):
    (copied / name).write_text('{"name": ')
    with pytest.raises(DamagedFileError, match=f"{name} is not readable JSON"):
        load_pretrained(copied)


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} is no folder of a pipeline: it has no model_index.json"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    "inside, advice", [("model", "it is a finished run: give .*model"), ("checkpoints", "the command that began it goes on")]
)
def test_the_folder_of_a_run_is_known(tmp_path, inside, advice):
    (tmp_path / inside).mkdir()
    with pytest.raises(FileNotFoundError, match=advice):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("source", ["large", "/nowhere/model", "some/where/else"])
def test_an_unknown_name_is_told_what_there_is(source):
    with pytest.raises(FileNotFoundError, match=f"no model '{source}': give 'tiny', an existing folder or a hub id"):
        load_pretrained(source)


def test_a_hub_id_that_the_hub_does_not_give_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"^no folder 'nobody/nothing' here, and [^\n]+$"):
        load_pretrained("nobody/nothing")


def test_without_a_network_a_hub_id_is_answered_within_seconds(monkeypatch, capfd):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(
        FileNotFoundError, match="the hub gave no model 'nobody/nothing' .*HF_HUB_OFFLINE=1 takes what was downloaded before$"
    ):
        load_pretrained("nobody/nothing")
    with pytest.raises(FileNotFoundError, match="the hub gave no dataset 'nobody/nothing' [^\n]*$"):
        load_task("nobody/nothing")
    assert time.monotonic() - began < 10 and capfd.readouterr() == ("", "")


def test_a_hub_id_is_fetched_without_its_pickles(monkeypatch, saved):
    asked = {}

    monkeypatch.setattr("difftuning.support.hub.require_on_hub", lambda *_: None)

    def snapshot(source, *, revision, allow_patterns, ignore_patterns):
        asked[source, revision] = allow_patterns + ignore_patterns
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load_pretrained("somebody/model").name == load_pretrained("somebody/model@refs/pr/1").name == "small"
    assert list(asked) == [("somebody/model", None), ("somebody/model", "refs/pr/1")]
    patterns = asked["somebody/model", None]
    assert {"*.json", "*/*.safetensors"} <= set(patterns) and not any(".bin" in pattern for pattern in patterns)


@pytest.mark.parametrize("device", ["cuda:7", "warp"])
def test_an_unknown_device_is_one_clear_line(saved, device):
    if torch.cuda.is_available() and torch.cuda.device_count() > 7:
        pytest.skip("this machine has eight GPUs")
    with pytest.raises(ValueError, match=f"^device '{device}' is not there; this machine has cpu[^\n]*$"):
        load_pretrained(saved, device=device)


def test_the_device_is_checked_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="device 'warp' is not there"):
        load_pretrained(tmp_path / "absent", device="warp")


def test_weights_that_the_configuration_has_no_place_for_are_not_dropped(small_model, tmp_path):
    """A folder of stock diffusers, without checksums."""
    small_model.save(tmp_path)
    (tmp_path / "difftuning.json").unlink()
    path = tmp_path / "transformer" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"num_layers": 1}))
    with pytest.raises(DamagedFileError, match="do not fit: only one of them has 'transformer_blocks.1"):
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


@pytest.mark.parametrize("damaged", [3, {"vae/config.json": "cut"}, {"vae/config.json": None}])
def test_a_damaged_list_of_checksums_is_named(saved, tmp_path, damaged):
    copy = shutil.copytree(saved, tmp_path / "copy")
    card = json.loads((copy / CARD).read_text(encoding="utf-8"))
    (copy / CARD).write_text(json.dumps(card | {"sha256": damaged}), encoding="utf-8")
    with pytest.raises(DamagedFileError, match="difftuning.json is damaged"):
        load_pretrained(copy)
