"""A result is saved whole, opens again, and is never written over something else."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from difftuning.models.pretrained import Pretrained
from difftuning.sampling import sample
from difftuning.support.files import DamagedFileError, read_json, write_json
from difftuning.training import fine_tuned
from difftuning.training.fine_tuned import load_fine_tuned
from tests.training.helpers import contents, tune, weights


def test_a_result_is_sampled_by_name_or_row(tuned):
    by_name = sample(tuned.model, ["shape 1", "ring"], steps=2)
    assert torch.equal(by_name, sample(tuned.model, [int(tuned.rows[1]), 0], steps=2)) and by_name.shape == (2, 3, 8, 8)


def test_the_result_carries_the_averaged_weights(pretrained, task, bank, tmp_path):
    averages = []
    result = tune(pretrained, task, bank, tmp_path, callbacks=[lambda state: averages.append(state.ema_model())])
    assert torch.equal(weights(result.model.denoiser), weights(averages[-1]))
    assert not torch.equal(weights(averages[-1]), weights(averages[-2]))


def test_a_saved_result_opens_to_the_same_samples_history_and_settings(pretrained, task, bank, tuned_folder, tuned, tmp_path):
    again = tune(pretrained, task, bank, tuned_folder)  # finished: opened through the checkpoint
    again.save(tmp_path / "copy")
    for loaded in (tuned, load_fine_tuned(tmp_path / "copy")):
        assert torch.equal(weights(loaded.model.denoiser), weights(again.model.denoiser))
        assert torch.equal(sample(loaded.model, ["shape 2"], steps=3), sample(again.model, ["shape 2"], steps=3))
        assert loaded.history.equals(again.history) and loaded.config == again.config and torch.equal(loaded.rows, again.rows)
        assert loaded.model.name == "small tuned on shapes"
    assert list(again.history) == ["step", "target_loss", "bank_loss", "seconds"] and len(again.history) == 12


def test_a_finished_folder_and_a_foreign_one_are_not_overwritten(pretrained, task, bank, tuned_folder, tmp_path):
    with pytest.raises(FileExistsError, match="already holds a run: resume=True"):
        tune(pretrained, task, bank, tuned_folder, resume=False)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something else"):
        tune(pretrained, task, bank, tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"mine"}


def test_a_foreign_file_inside_the_result_is_not_swept_away(tuned, tmp_path):
    tuned.save(tmp_path / "r")
    (tmp_path / "r" / "model" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something that is not a model .notes.txt"):
        tuned.save(tmp_path / "r")
    assert (tmp_path / "r" / "model" / "notes.txt").read_text() == "mine"


def test_a_result_that_cannot_be_written_leaves_the_earlier_one_whole(pretrained, task, tuned, tmp_path, monkeypatch):
    """The disk fills up while the model is written, after the history."""
    tuned.save(tmp_path / "r")
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}

    def full(self, folder, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Pretrained, "save", full)
    other = replace(tuned, history=tuned.history.iloc[:3])
    for folder in ("r", "new"):
        with pytest.raises(OSError, match="cannot be written .*No space left.*; free some space"):
            other.save(tmp_path / folder)
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()} == before
    assert not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize("rows", ["x", [99, -3, 0], [[0]]])
def test_rows_that_no_label_table_has_are_named(tuned, tmp_path, rows):
    """Even where no checksum tells of them, as in the first results."""
    tuned.save(tmp_path)
    write_json(tmp_path / "result.json", read_json(tmp_path / "result.json") | {"rows": rows})
    with pytest.raises(DamagedFileError, match="result.json does not describe a fine-tuning"):
        load_fine_tuned(tmp_path)


def test_other_rows_or_settings_than_were_saved_are_noticed(tuned, tmp_path):
    tuned.save(tmp_path)
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    record = json.loads(text)
    for change in ({"rows": record["rows"][::-1]}, {"config": record["config"] | {"seed": 1}}):
        (tmp_path / "result.json").write_text(json.dumps(record | change), encoding="utf-8")
        with pytest.raises(DamagedFileError, match="result.json .* does not match its own checksum"):
            load_fine_tuned(tmp_path)
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    assert load_fine_tuned(tmp_path).config == tuned.config


def test_a_result_saved_before_it_had_a_checksum_opens(tuned, tmp_path):
    tuned.save(tmp_path)
    write_json(tmp_path / "result.json", read_json(tmp_path / "result.json"))
    assert load_fine_tuned(tmp_path).config == tuned.config


def test_what_a_user_keeps_beside_a_run_does_not_stop_its_result(pretrained, task, tmp_path):
    tune(pretrained, task, None, tmp_path, steps=2)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert len(tune(pretrained, task, None, tmp_path, steps=3).history) == 3 == len(load_fine_tuned(tmp_path).history)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_folder_without_a_result_and_damaged_results_are_named(tuned_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished fine-tuning in"):
        load_fine_tuned(tmp_path)
    copy = Path(shutil.copytree(tuned_folder, tmp_path / "copy"))
    result = (copy / "result.json").read_text()
    for content in (result[:30], result.replace('"steps"', '"stops"'), result.replace('"bank_share": 0.2', '"bank_share": 7')):
        (copy / "result.json").write_text(content)
        with pytest.raises(DamagedFileError, match="result.json"):
            load_fine_tuned(copy)


@pytest.mark.parametrize("name", [
    "history.csv", "model/difftuning.json", "model/transformer/diffusion_pytorch_model.safetensors", "model/transformer/config.json",
    "model/vae/config.json", "model/scheduler/scheduler_config.json",
])  # fmt: skip
@pytest.mark.parametrize("damage", ["cut", "altered", "missing"])
def test_a_damaged_result_is_named_and_written_anew_by_the_same_call(pretrained, task, bank, tuned_folder, tmp_path, name, damage):
    copy = Path(shutil.copytree(tuned_folder, tmp_path / "copy"))
    content, path = bytearray((copy / name).read_bytes()), copy / name
    path.unlink()
    if damage != "missing":
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "altered" else content[: len(content) // 2])
    with pytest.raises(DamagedFileError, match=f"{path.parent}.* or train again as before"):
        load_fine_tuned(copy)
    tune(pretrained, task, bank, copy)
    assert load_fine_tuned(copy).model.fingerprint == load_fine_tuned(tuned_folder).model.fingerprint


def test_a_result_whose_model_is_of_another_run_is_named(pretrained, task, bank, tuned_folder, tmp_path):
    """As a kill between two files would leave it."""
    copy, other = Path(shutil.copytree(tuned_folder, tmp_path / "copy")), tmp_path / "other"
    tune(pretrained, task, bank, other, seed=1)
    shutil.rmtree(copy / "model")
    shutil.copytree(other / "model", copy / "model")
    with pytest.raises(DamagedFileError, match="model/difftuning.json is missing, cut off or altered"):
        load_fine_tuned(copy)


def test_a_result_without_its_model_is_not_looked_for_on_the_hub(tuned_folder, tmp_path, monkeypatch):
    shutil.copytree(tuned_folder, tmp_path / "copy", ignore=shutil.ignore_patterns("model"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DamagedFileError, match="model/difftuning.json is missing"):
        load_fine_tuned("copy")


def test_a_result_is_not_saved_over_something_else(tuned, tmp_path):
    for name, content in {"thesis": {"thesis.txt": "years"}, "pretrained": {"run.json": '{"source": 1}', "history.csv": "step"}}.items():
        (tmp_path / name).mkdir()
        for file, text in content.items():
            (tmp_path / name / file).write_text(text)
        with pytest.raises(FileExistsError, match=f"{name} is not empty and holds something else"):
            tuned.save(tmp_path / name)
        assert sorted(os.listdir(tmp_path / name)) == sorted(content)


def test_a_result_is_saved_over_itself_and_over_a_save_that_failed(tuned, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(fine_tuned, "write_json", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            tuned.save(tmp_path / "mine")
    for _ in range(2):
        tuned.save(tmp_path / "mine")
    assert load_fine_tuned(tmp_path / "mine").model.fingerprint == tuned.model.fingerprint
