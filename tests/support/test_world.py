"""The tiny world's files are verified, and a wrong place is said."""

from __future__ import annotations

import pytest

from difftuning.support import files, world
from difftuning.support.files import DamagedFileError
from difftuning.support.world import world_file


def test_an_altered_file_of_the_world_is_named_and_an_unknown_one_too(tmp_path, monkeypatch):
    (tmp_path / "VERSION").write_text("1\n")
    (tmp_path / "SHA256SUMS").write_text(f"{files.sha256(tmp_path / 'VERSION')}  VERSION\n")
    monkeypatch.setenv("DIFFTUNING_DATA", str(tmp_path))
    assert world_file("VERSION").read_text() == "1\n"
    world._verified.cache_clear()
    (tmp_path / "VERSION").write_text("2\n")
    with pytest.raises(DamagedFileError, match="VERSION does not match its checksum"):
        world_file("VERSION")
    with pytest.raises(FileNotFoundError, match="has no file 'models/none'"):
        world_file("models/none")


def test_a_wrong_place_for_the_world_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFTUNING_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="DIFFTUNING_DATA="):
        world.data_folder()


@pytest.mark.parametrize("damaged", ["no list at all\n", "0123\n", "xyz  VERSION\n", "\xff"])
def test_a_damaged_list_of_checksums_is_named(tmp_path, monkeypatch, damaged):
    (tmp_path / "VERSION").write_text("1\n", encoding="utf-8")
    (tmp_path / "SHA256SUMS").write_bytes(damaged.encode("latin-1"))
    monkeypatch.setenv("DIFFTUNING_DATA", str(tmp_path))
    with pytest.raises(DamagedFileError, match="SHA256SUMS is damaged: its list of checksums is none; restore it"):
        world_file("VERSION")


def test_a_list_of_checksums_may_have_windows_line_ends_and_a_byte_order_mark(tmp_path, monkeypatch):
    (tmp_path / "VERSION").write_bytes(b"1\n")
    (tmp_path / "SHA256SUMS").write_bytes(b"\xef\xbb\xbf" + f"{files.sha256(tmp_path / 'VERSION')}  VERSION\r\n".encode())
    monkeypatch.setenv("DIFFTUNING_DATA", str(tmp_path))
    assert world.world_version() == "1"
