"""LoRA by hand, peft's, and peft's own files."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from diffusers import DiTPipeline

from difftuning import apply_adapter, load_adapter, load_pretrained, merge_adapter
from difftuning.support.files import DamagedFileError
from small import small_pretrained
from tests.models.test_adapters import LABELS, X_T, T, shaken


def test_lora_by_hand_gives_pefts_output_and_gradients():
    rank, alpha = 3, 6.0
    model = shaken(apply_adapter(small_pretrained().denoiser, "lora", rank=rank, alpha=alpha))
    layer = model.transformer.transformer_blocks[1].attn1.to_v
    a, b = (getattr(layer, f"lora_{factor}")["default"].weight for factor in ("A", "B"))
    x = torch.randn(5, 32)
    by_hand = x @ layer.base_layer.weight.T + layer.base_layer.bias + alpha / rank * (x @ a.T) @ b.T
    torch.testing.assert_close(layer(x), by_hand)
    output = layer(x)
    torch.testing.assert_close(torch.autograd.grad(output.square().sum(), [a, b]), torch.autograd.grad(by_hand.square().sum(), [a, b]))


def test_peft_itself_reads_the_adapter_onto_the_stock_transformer(tmp_path):
    from peft import PeftModel

    base = small_pretrained()
    tuned = base.with_denoiser(shaken(apply_adapter(base.copy_denoiser(), "lora", rank=4)))
    tuned.save_adapter(tmp_path / "adapter")
    other = base.copy_denoiser()
    other.transformer = PeftModel.from_pretrained(other.transformer, tmp_path / "adapter").base_model.model
    with torch.no_grad():
        other.label_table.copy_(tuned.denoiser.label_table)  # peft's file has the two factors alone
    torch.testing.assert_close(other(X_T, T, LABELS), tuned.denoiser(X_T, T, LABELS), rtol=0, atol=0)
    options = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (options["peft_type"], options["r"], options["lora_alpha"], set(options["target_modules"])) == ("LORA", 4, 4, {"to_q", "to_v"})


@pytest.mark.parametrize("name", ["lora", "difffit", "vpt"])
def test_an_adapter_goes_onto_the_model_that_it_was_trained_on_and_no_other(name, tmp_path):
    base = small_pretrained()
    tuned = base.with_denoiser(shaken(apply_adapter(base.copy_denoiser(), name)), label_names=["new"], name="tuned")
    tuned.save_adapter(tmp_path / "adapter")
    again = load_adapter(base, tmp_path / "adapter")
    assert torch.equal(again.denoiser(X_T, T, LABELS), tuned.denoiser(X_T, T, LABELS))
    assert (again.name, again.label_names, again.first_free_label) == ("tuned", ["new"], 5)
    assert base.denoiser.adapter is None and asdict(again.denoiser.adapter) == asdict(tuned.denoiser.adapter)
    with pytest.raises(ValueError, match="was trained on another model than small"):
        load_adapter(small_pretrained(seed=1), tmp_path / "adapter")
    with pytest.raises(FileExistsError, match="adapter is not empty"):
        tuned.save_adapter(tmp_path / "adapter")
    with pytest.raises(ValueError, match="has no adapter to save"):
        base.save_adapter(tmp_path / "none")


def test_a_saved_model_with_an_adapter_opens_to_the_same_bits_and_holds_its_base_untouched(tmp_path):
    base = small_pretrained()
    tuned = base.with_denoiser(shaken(apply_adapter(base.copy_denoiser(), "difffit")))
    for _ in range(2):  # also over itself
        tuned.save(tmp_path / "model")
    again = load_pretrained(tmp_path / "model")
    assert torch.equal(again.denoiser(X_T, T, LABELS), tuned.denoiser(X_T, T, LABELS))
    assert load_pretrained(tmp_path / "model" / "base").fingerprint == base.fingerprint
    with pytest.raises(OSError):  # stock diffusers must not take the base for the tuned model
        DiTPipeline.from_pretrained(tmp_path / "model")
    (tmp_path / "model" / "adapter" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something that is not a model .adapter/notes.txt"):
        tuned.save(tmp_path / "model")


def test_stock_diffusers_reads_a_merged_model(tmp_path):
    base = small_pretrained()
    tuned = base.with_denoiser(shaken(apply_adapter(base.copy_denoiser(), "lora")))
    apart = tuned.denoiser(X_T, T, LABELS)
    merge_adapter(tuned).save(tmp_path / "merged")
    transformer = DiTPipeline.from_pretrained(tmp_path / "merged").transformer.eval()
    torch.testing.assert_close(transformer(X_T, timestep=T, class_labels=LABELS).sample, apart, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "weights.safetensors", "adapter_config.json", "difftuning.json"])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_adapter_is_named(file, damage, tmp_path):
    base = small_pretrained()
    base.with_denoiser(apply_adapter(base.copy_denoiser(), "lora")).save(tmp_path / "model")
    path = tmp_path / "model" / "adapter" / file
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedFileError, match=f"adapter/{file} is missing"):
        load_pretrained(tmp_path / "model")
    with pytest.raises((DamagedFileError, FileNotFoundError), match="adapter"):
        load_adapter(base, tmp_path / "model" / "adapter")
