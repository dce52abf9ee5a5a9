import errno
import signal

import pytest
import torch

from difftuning import files
from difftuning.files import DamagedFileError, atomic_path, load_tensors, read_json, require_space, save_tensors, world_file
from small import small_pretrained


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as scratch:
        scratch.write_text("half of the n")
        raise RuntimeError("killed")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "model"
    for name in ("one", "two"):
        with atomic_path(folder) as scratch:
            scratch.mkdir()
            (scratch / name).write_text(name)
    assert [path.name for path in folder.iterdir()] == ["two"] and list(tmp_path.iterdir()) == [folder]


def test_tensors_come_back_bit_for_bit(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5)}
    save_tensors(tmp_path / "t.safetensors", tensors)
    loaded = load_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_pickle_and_a_cut_file_are_refused_by_name(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "pickle.safetensors")
    save_tensors(tmp_path / "cut.safetensors", {"a": torch.ones(100)})
    data = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    for name in ("pickle", "cut"):
        with pytest.raises(DamagedFileError, match=f"{name}.safetensors"):
            load_tensors(tmp_path / f"{name}.safetensors")


def test_broken_json_is_named(tmp_path):
    (tmp_path / "card.json").write_text('{"half": ')
    with pytest.raises(DamagedFileError, match="card.json"):
        read_json(tmp_path / "card.json")


def test_too_little_space_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(OSError, match="free some space"):
        require_space(tmp_path / "not" / "there", 2**62)
    assert list(tmp_path.iterdir()) == []
    require_space(tmp_path, 1)


def test_an_altered_file_of_the_world_is_named_and_an_unknown_one_too(tmp_path, monkeypatch):
    (tmp_path / "VERSION").write_text("1\n")
    (tmp_path / "SHA256SUMS").write_text(f"{files.sha256(tmp_path / 'VERSION')}  VERSION\n")
    monkeypatch.setenv("DIFFTUNING_DATA", str(tmp_path))
    assert world_file("VERSION").read_text() == "1\n"
    files._verified.cache_clear()
    (tmp_path / "VERSION").write_text("2\n")
    with pytest.raises(DamagedFileError, match="VERSION does not match its checksum"):
        world_file("VERSION")
    with pytest.raises(FileNotFoundError, match="has no file 'models/none'"):
        world_file("models/none")


def test_a_wrong_place_for_the_world_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFTUNING_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="DIFFTUNING_DATA="):
        files.data_folder()


def test_a_folder_is_never_replaced_by_a_file(tmp_path):
    (tmp_path / "out.png").mkdir()
    (tmp_path / "out.png" / "x").write_text("precious")
    with (
        pytest.raises(FileExistsError, match="out.png is a folder, where a file was to be written"),
        atomic_path(tmp_path / "out.png") as scratch,
    ):
        scratch.write_text("new")
    assert (tmp_path / "out.png" / "x").read_text() == "precious"


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits on files are POSIX")
def test_a_write_that_the_system_refuses_is_an_os_error_that_names_the_file(tmp_path):
    """Safetensors has an error of its own for a full disk, a quota or a limit on files."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="big.safetensors cannot be written"):
            save_tensors(tmp_path / "big.safetensors", {"a": torch.zeros(10_000)})
        with pytest.raises(OSError, match="model cannot be written"):  # diffusers writes this one
            small_pretrained().save(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_with_the_file(tmp_path):
    with (
        pytest.raises(OSError, match="notes.txt cannot be written .*No space left on device.*; free some space"),
        atomic_path(tmp_path / "notes.txt"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), atomic_path(tmp_path / "notes.txt"):
        raise PermissionError(errno.EACCES, "no")
