"""A checkpoint is whole or it is not there, and what was damaged is named."""

from __future__ import annotations

import collections
import pickle
import shutil
import socket

import pytest
import torch

from difftuning.support.files import DamagedFileError, read_json, sha256, write_json
from difftuning.training import checkpoints
from difftuning.training.checkpoints import copy_into, list_checkpoints, load_checkpoint, restore_optimizer, save_checkpoint

FILES = ["model.safetensors", "optimizer.safetensors", "history.csv", "state.json"]


def save(folder, step: int = 5, *, keep: int = 2, value: float = 1.5) -> None:
    tensors = {"model": {"weight": torch.full((3, 2), value)}, "optimizer": {"0.step": torch.tensor(4.0)}}
    save_checkpoint(folder, step, tensors, f"step,loss\n{step},0.1\n", keep=keep)


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_saved_comes_back(tmp_path):
    save(tmp_path)
    step, tensors, history = load_checkpoint(tmp_path)
    assert (step, history) == (5, "step,loss\n5,0.1\n")
    assert torch.equal(tensors["model"]["weight"], torch.full((3, 2), 1.5))
    assert tensors["optimizer"]["0.step"].shape == ()


def test_without_checkpoints_there_is_nothing_to_load(tmp_path):
    assert load_checkpoint(tmp_path) is None


def test_the_newest_are_kept_and_the_newest_is_loaded(tmp_path):
    for step in (5, 10, 100):
        save(tmp_path, step, value=step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000010", "step-00000100"]
    assert load_checkpoint(tmp_path)[0] == 100


def test_what_a_killed_writer_left_is_passed_over_and_swept_away(tmp_path, dead_process):
    save(tmp_path)
    half = tmp_path / "checkpoints" / f".difftuning-{dead_process}@{socket.gethostname()}-x7" / "step-00000010"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    assert load_checkpoint(tmp_path)[0] == 5
    save(tmp_path, 10)
    assert not half.parent.exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "altered", "missing"])
def test_a_damaged_checkpoint_is_named_with_the_way_out(tmp_path, name, damage):
    save(tmp_path, 5)
    save(tmp_path, 10)
    path = tmp_path / "checkpoints" / "step-00000010" / name
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        path.write_bytes(content.replace(b"10", b"11") if name == "state.json" else content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    with pytest.raises(DamagedFileError) as caught:
        load_checkpoint(tmp_path)
    assert str(path) in str(caught.value) and "go on from the one before" in str(caught.value)
    assert "\n" not in str(caught.value)
    shutil.rmtree(path.parent)
    assert load_checkpoint(tmp_path)[0] == 5


def test_a_pickle_is_refused_even_under_a_right_checksum(tmp_path):
    save(tmp_path)
    folder = tmp_path / "checkpoints" / "step-00000005"
    old = sha256(folder / "model.safetensors")
    (folder / "model.safetensors").write_bytes(pickle.dumps(collections.OrderedDict(weight=1)))
    state = read_json(folder / "state.json")
    assert state["files"]["model.safetensors"] == old
    state["files"]["model.safetensors"] = sha256(folder / "model.safetensors")
    write_json(folder / "state.json", state, sealed=True)
    with pytest.raises(DamagedFileError, match="pickled weights are not loaded"):
        load_checkpoint(tmp_path)


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    save(tmp_path, 5)
    before = contents(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: collections.namedtuple("Usage", "total used free")(10, 10, 0))
    with pytest.raises(OSError, match=r"\d [kM]B free"):
        save(tmp_path, 10)
    assert contents(tmp_path) == before


def test_a_stray_folder_among_the_checkpoints_is_left_alone(tmp_path):
    save_checkpoint(tmp_path, 3, {"model": {"w": torch.ones(1)}}, "step\n", keep=1)
    (tmp_path / "checkpoints" / "step-backup").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000003"]
    assert load_checkpoint(tmp_path)[0] == 3


def test_an_optimizer_goes_on_from_its_saved_state_bit_by_bit(tmp_path):
    def build():
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.0)

    def steps(layer, optimizer, numbers):
        for number in numbers:
            layer(torch.randn(8, 4, generator=torch.Generator().manual_seed(number))).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    straight, optimizer = build()
    steps(straight, optimizer, range(6))
    first, optimizer = build()
    steps(first, optimizer, range(3))
    tensors = {"model": {n: p.detach() for n, p in first.named_parameters()}, "optimizer": checkpoints.optimizer_tensors(optimizer)}
    save_checkpoint(tmp_path, 3, tensors, "", keep=1)
    _, tensors, _ = load_checkpoint(tmp_path)
    second, optimizer = build()
    copy_into(dict(second.named_parameters()), tensors["model"])
    restore_optimizer(optimizer, tensors["optimizer"])
    steps(second, optimizer, range(3, 6))
    assert torch.equal(straight.weight, second.weight) and torch.equal(straight.bias, second.bias)


def test_weights_that_do_not_fit_are_refused():
    own = {"weight": torch.zeros(3, 2)}
    with pytest.raises(ValueError, match="'bias' is .3,., not None"):
        copy_into(own, {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"'weight' is \(1, 2\), not \(3, 2\)"):  # copy_ alone would spread it
        copy_into(own, {"weight": torch.ones(1, 2)})
