"""Every adapter through `fine_tune`, plain and with Diff-Tuning: trained, resumed, saved, opened, sampled, scored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DiTPipeline

from difftuning import DiffTuningConfig, apply_adapter, evaluate, fine_tune, load_adapter, load_fine_tuned, load_pretrained, sample
from difftuning.models.adapters.options import ADAPTERS, LoRA
from difftuning.support.files import DamagedFileError
from difftuning.training.fine_tuned import FineTuned
from tests.training.helpers import PLAIN, contents, weights


def tune(pretrained, task, bank, folder, adapter, *, callbacks=(), **options) -> FineTuned:
    config = DiffTuningConfig(**{"steps": 8, "checkpoint_every": 3, "learning_rate": 1e-2, "batch_size": 10, **options})
    return fine_tune(pretrained, task, bank, config, folder=folder, adapter=adapter, callbacks=callbacks, progress=False)


def interrupt_at(step):
    def callback(state):
        if state.step == step:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("method", ["plain", "Diff-Tuning"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_interrupted_run_goes_on_to_the_same_bits_and_opens_to_them(pretrained, task, bank, tmp_path, name, method):
    bank, options = (None, PLAIN) if method == "plain" else (bank, {})
    straight = tune(pretrained, task, bank, tmp_path / "straight", name, **options)
    with pytest.raises(KeyboardInterrupt):
        tune(pretrained, task, bank, tmp_path / "cut", name, callbacks=[interrupt_at(5)], **options)
    resumed = tune(pretrained, task, bank, tmp_path / "cut", name, **options)
    opened = load_fine_tuned(tmp_path / "cut")
    for other in (resumed, opened):
        assert torch.equal(weights(straight.model.denoiser), weights(other.model.denoiser))
        assert straight.history.drop(columns="seconds").equals(other.history.drop(columns="seconds"))
        assert torch.equal(sample(other.model, ["shape 1", "ring"], steps=2), sample(straight.model, ["shape 1", "ring"], steps=2))
    assert opened.model.denoiser.adapter == ADAPTERS[name] and opened.model.name == "small tuned on shapes"


@pytest.mark.parametrize("name", ADAPTERS)
def test_only_what_the_adapter_trains_moves_and_of_the_label_table_the_rows_in_use(pretrained, task, bank, tmp_path, name):
    tuned = tune(pretrained, task, bank, tmp_path, name)
    start = pretrained.with_denoiser(apply_adapter(pretrained.copy_denoiser(), name)).denoiser
    before, after = dict(start.named_parameters()), dict(tuned.model.denoiser.named_parameters())
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert moved <= {key for key, weight in before.items() if weight.requires_grad}
    rows = (start.label_table != tuned.model.denoiser.label_table).any(dim=1).nonzero().flatten().tolist()
    assert rows == [*tuned.rows.tolist(), pretrained.null_label]
    assert tuned.history.target_loss.iloc[-1] < tuned.history.target_loss.iloc[0]


def test_the_small_file_of_a_result_is_enough_beside_the_model_it_was_tuned_from(pretrained, task, bank, tmp_path):
    tuned = tune(pretrained, task, bank, tmp_path / "run", LoRA(rank=2, targets="attention"))
    alone = load_adapter(pretrained, Path(shutil.copytree(tmp_path / "run" / "model" / "adapter", tmp_path / "alone")))
    for each in (alone, load_adapter(pretrained, tmp_path / "run"), load_adapter(pretrained, tmp_path / "run" / "model")):
        assert torch.equal(sample(each, ["shape 2"], steps=2), sample(tuned.model, ["shape 2"], steps=2))
    assert load_pretrained(tmp_path / "run" / "model" / "base").fingerprint == pretrained.fingerprint


@pytest.mark.parametrize("name", ["bitfit", "lora", "difffit"])
def test_a_merged_result_is_a_stock_model_that_draws_the_same(pretrained, task, tmp_path, name):
    tuned = tune(pretrained, task, None, tmp_path / "run", name)
    before = weights(tuned.model.denoiser)
    merged = tuned.merge()
    merged.save(tmp_path / "merged")
    assert torch.equal(weights(tuned.model.denoiser), before), "the result itself stays as it is"
    opened = load_fine_tuned(tmp_path / "merged")
    torch.testing.assert_close(sample(opened.model, ["shape 0"], steps=3), sample(tuned.model, ["shape 0"], steps=3), atol=1e-4, rtol=0)
    DiTPipeline.from_pretrained(tmp_path / "merged" / "model")
    assert opened.rows.tolist() == tuned.rows.tolist()


def test_a_result_with_an_adapter_is_scored_and_tuned_further_as_any_model(pretrained, task, tmp_path):
    first = tune(pretrained, task, None, tmp_path / "first", "lora")
    images = sample(first.model, first.rows[torch.arange(8) % 3], steps=2)
    assert evaluate(images.repeat(2, 1, 4, 4), images.repeat(2, 1, 4, 4))["fid"] < 1e-3
    further = tune(first.model, task, None, tmp_path / "further", None, label_rows="first")  # goes on training the adapter
    assert further.model.denoiser.adapter == LoRA() and further.model.fingerprint != first.model.fingerprint
    with pytest.raises(ValueError, match="has an adapter already"):
        tune(first.model, task, None, tmp_path / "second", "vpt")


def test_a_run_with_another_adapter_is_another_run(pretrained, task, tmp_path):
    tune(pretrained, task, None, tmp_path, "lora", steps=1)
    tune(pretrained, task, None, tmp_path, LoRA(rank=8), steps=1)  # the same, spelt out
    with pytest.raises(ValueError, match="adapter was .LoRA.rank=8.*, is .LoRA.rank=4"):
        tune(pretrained, task, None, tmp_path, LoRA(rank=4), steps=1)


def test_a_function_of_the_users_own_may_choose_weights_but_not_add_any(pretrained, task, tmp_path):
    def output_layer(denoiser):
        denoiser.transformer.proj_out_2.requires_grad_(True)

    def more(denoiser):
        denoiser.more = torch.nn.Linear(1, 1)

    tuned = tune(pretrained, task, None, tmp_path / "run", output_layer)
    before, after = (dict(model.denoiser.named_parameters()) for model in (pretrained, tuned.model))
    moved = {name.rpartition(".")[0].removeprefix("transformer.") for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"proj_out_2", "transformer_blocks.0.norm1.emb.class_embedder.embedding_table"}
    assert load_fine_tuned(tmp_path / "run").model.fingerprint == tuned.model.fingerprint  # stock diffusers' folder
    with pytest.raises(ValueError, match="adds weights, which only an adapter with a line in ADAPTERS can"):
        tune(pretrained, task, None, tmp_path / "more", more)
    assert not (tmp_path / "more").exists()


def test_a_damaged_adapter_of_a_result_is_named_and_written_anew_by_the_same_call(pretrained, task, tmp_path):
    tuned = tune(pretrained, task, None, tmp_path, "lora")
    whole, path = contents(tmp_path / "model"), tmp_path / "model" / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        DamagedFileError, match="adapter_model.safetensors is missing, cut off or altered; restore it, or train again as before"
    ):
        load_fine_tuned(tmp_path)
    assert tune(pretrained, task, None, tmp_path, "lora").model.fingerprint == tuned.model.fingerprint
    assert contents(tmp_path / "model") == whole
