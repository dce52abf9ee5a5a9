"""Where the tiny world lies, and its files, each verified against the recorded checksum."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from .files import DamagedFileError, checksum_list, read_text, verify
from .names import user_path

SUMS = "SHA256SUMS"


def data_folder() -> Path:
    """The tiny world's folder: `DIFFTUNING_DATA`, else the wheel's copy, else the clone's data/."""
    package = Path(__file__).resolve().parents[1]
    named = os.environ.get("DIFFTUNING_DATA")
    for folder in [user_path(named)] if named else [package / "world", package.parent / "data"]:
        if (folder / SUMS).is_file():
            return folder
    where = f"DIFFTUNING_DATA={named}" if named else f"{package / 'world'} or {package.parent / 'data'}"
    raise FileNotFoundError(f"no tiny world at {where}: set DIFFTUNING_DATA to a clone's data/ folder")


@functools.cache
def _world_checksums(folder: Path) -> dict[str, str]:
    lines = [line.partition("  ") for line in (folder / SUMS).read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    return checksum_list(folder / SUMS, {name: digest for digest, _, name in lines})


def world_file(name: str) -> Path:
    """The path of one file of the tiny world, its checksum verified once per process."""
    return _verified(data_folder(), name)


@functools.cache
def _verified(folder: Path, name: str) -> Path:
    recorded = _world_checksums(folder).get(name)
    path = folder / name
    if recorded is None or not path.is_file():
        raise FileNotFoundError(f"the tiny world at {folder} has no file {name!r}; restore it from git or run `make assets`")
    if verify(folder, {name: recorded}):
        raise DamagedFileError(f"{path} does not match its checksum in {SUMS}; restore both from git or run `make assets`")
    return path


def world_files(folder: str) -> list[Path]:
    """Every recorded file under one folder of the tiny world, each verified."""
    names = [name for name in _world_checksums(data_folder()) if name.startswith(f"{folder}/")]
    return [world_file(name) for name in names]


def world_version() -> str:
    """The tiny world's version, data/VERSION; results of different versions are never mixed."""
    return read_text(world_file("VERSION")).strip()
