"""Files are written whole or not at all, and what is damaged is named."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
from pathlib import Path

import pytest
import torch

from difftuning.support.files import (
    DamagedFileError,
    atomic_path,
    checksum_list,
    is_ours,
    load_tensors,
    read_json,
    read_text,
    require_space,
    save_tensors,
    sha256,
    verify,
    write_json,
    write_text,
)
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


@pytest.mark.parametrize("name", ["model", "old", "model.old"])
def test_a_folder_that_cannot_be_replaced_is_there_as_before(tmp_path, monkeypatch, name):
    folder = tmp_path / name
    for text in ("first", "second"):
        with atomic_path(folder) as scratch:
            scratch.mkdir()
            (scratch / "text").write_text(text)
    with monkeypatch.context() as patched, pytest.raises(PermissionError), atomic_path(folder) as scratch:
        scratch.mkdir()
        patched.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError("in use")))
    assert (folder / "text").read_text() == "second" and list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_was_moved_away_by_a_killed_process_is_put_back_by_the_next_write(tmp_path, dead_process):
    moved = tmp_path / f".difftuning-{dead_process}@{socket.gethostname()}-a1" / "model.old"
    moved.mkdir(parents=True)
    (moved / "text").write_text("kept")
    write_text(tmp_path / "new.txt", "whole")
    assert (tmp_path / "model" / "text").read_text() == "kept" and sorted(path.name for path in tmp_path.iterdir()) == ["model", "new.txt"]


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


def test_a_folder_is_never_replaced_by_a_file(tmp_path):
    (tmp_path / "out.png").mkdir()
    (tmp_path / "out.png" / "x").write_text("precious")
    with (
        pytest.raises(OSError, match="out.png"),
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


def test_files_get_the_mode_that_the_umask_says(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o027, 0o640), (0o002, 0o664)):
        old = os.umask(mask)
        try:
            save_tensors(tmp_path / f"{mode}" / "a.safetensors", {"a": torch.ones(1)})
            write_json(tmp_path / f"{mode}" / "a.json", {})
            small_pretrained().save(tmp_path / f"{mode}" / "model")
        finally:
            os.umask(old)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / f"{mode}").rglob("*") if path.is_file()}
        assert len(modes) > 5 and set(modes.values()) == {mode}, modes


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path, monkeypatch):
    """As on many network and shared folders; the file itself still must reach the disk."""
    real = os.fsync

    def fsync(handle):
        if os.path.isdir(f"/dev/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "kept.txt", "whole")
    assert read_text(tmp_path / "kept.txt") == "whole"


def test_a_file_that_cannot_be_flushed_is_an_error(tmp_path, monkeypatch):
    def fsync(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        write_text(tmp_path / "lost.txt", "half")
    assert list(tmp_path.iterdir()) == []


def test_scratch_of_processes_that_are_gone_is_swept_by_the_next_write(tmp_path, dead_process):
    here = socket.gethostname()
    left = {
        "dead": f".difftuning-{dead_process}@{here}-a1", "alive": f".difftuning-{os.getpid()}@{here}-a2",
        "elsewhere": f".difftuning-{dead_process}@elsewhere-a3", "long ago": f".difftuning-{dead_process}@elsewhere-a4",
    }  # fmt: skip
    for name in left.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_bytes(b"half")
    os.utime(tmp_path / left["long ago"], (1e9, 1e9))
    write_text(tmp_path / "new.txt", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([left["alive"], left["elsewhere"], "new.txt"])


def test_text_is_read_as_any_system_writes_it(tmp_path):
    (tmp_path / "notepad.json").write_bytes(b'\xef\xbb\xbf{\r\n "name": "\xc3\x84pfel"\r\n}\r\n')
    assert read_json(tmp_path / "notepad.json") == {"name": "Äpfel"}


def test_text_is_written_to_the_same_bytes_on_every_system(tmp_path):
    write_text(tmp_path / "x.txt", "Ä\nb\n")
    assert (tmp_path / "x.txt").read_bytes() == b"\xc3\x84\nb\n"


def test_a_seal_tells_of_any_change_and_is_no_part_of_the_value(tmp_path):
    path = tmp_path / "sealed.json"
    write_json(path, {"b": [1, 2.5, None], "a": "Ä"}, sealed=True)
    assert read_json(path) == {"b": [1, 2.5, None], "a": "Ä"}
    path.write_text(path.read_text(encoding="utf-8").replace("2.5", "2.6"), encoding="utf-8")
    with pytest.raises(DamagedFileError, match="sealed.json holds no JSON object, or one that does not match its own checksum"):
        read_json(path)


def test_one_digest_of_files_texts_and_numbers(tmp_path):
    (tmp_path / "x").write_bytes(b"\x01\x00bc")
    numbers = torch.tensor([1], dtype=torch.int16).numpy()
    expected = hashlib.sha256(b"\x01\x00bc").hexdigest()
    assert sha256(tmp_path / "x") == sha256(numbers, "bc") == sha256(b"\x01\x00", b"bc") == expected


def test_verify_names_what_is_not_as_it_was(tmp_path):
    for name in ("same", "altered", "gone"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    sums = {name: sha256(tmp_path / name) for name in ("same", "altered", "gone")}
    (tmp_path / "altered").write_text("else", encoding="utf-8")
    (tmp_path / "gone").unlink()
    assert verify(tmp_path, sums) == ["altered", "gone"]


@pytest.mark.parametrize("damaged", [None, ["x"], {"x": 3}, {"x": "12"}, {"x": "g" * 64}])
def test_a_list_of_checksums_that_is_none_is_named(damaged):
    with pytest.raises(DamagedFileError, match="card.json is damaged: its list of checksums is none"):
        checksum_list(Path("card.json"), damaged)


def test_a_folder_is_ours_by_our_file_in_it(tmp_path):
    assert not is_ours(tmp_path / "new", "run.json") and not is_ours(tmp_path, "run.json")
    (tmp_path / ".hidden").touch()
    assert not is_ours(tmp_path, "run.json")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="holds something else"):
        is_ours(tmp_path, "run.json")
    (tmp_path / "run.json").touch()
    assert is_ours(tmp_path, "result.json", "run.json")
    with pytest.raises(FileExistsError, match="notes.txt is not empty and holds something else"):
        is_ours(tmp_path / "notes.txt", "run.json")
