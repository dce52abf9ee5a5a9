"""Files that can be trusted: checksums, atomic writes, and the place of the tiny world.

Nothing here reads a pickle: tensors live in safetensors, tables in CSV, the rest in JSON.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from torch import Tensor


class DamagedFileError(RuntimeError):
    """A file is missing, truncated or altered; the message names it and says what to do."""


def data_folder() -> Path:
    """The tiny world's folder: `DIFFTUNING_DATA`, else the wheel's copy, else the clone's data/."""
    package = Path(__file__).resolve().parent
    named = os.environ.get("DIFFTUNING_DATA")
    for folder in [Path(named)] if named else [package / "world", package.parent / "data"]:
        if (folder / "SHA256SUMS").is_file():
            return folder
    where = f"DIFFTUNING_DATA={named}" if named else f"{package / 'world'} or {package.parent / 'data'}"
    raise FileNotFoundError(f"no tiny world at {where}: set DIFFTUNING_DATA to a clone's data/ folder")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _world_checksums(folder: Path) -> dict[str, str]:
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def world_file(name: str) -> Path:
    """The path of one file of the tiny world, its checksum verified once per process."""
    return _verified(data_folder(), name)


@functools.cache
def _verified(folder: Path, name: str) -> Path:
    recorded = _world_checksums(folder).get(name)
    path = folder / name
    if recorded is None or not path.is_file():
        raise FileNotFoundError(f"the tiny world at {folder} has no file {name!r}; restore it from git or run `make assets`")
    if sha256(path) != recorded:
        raise DamagedFileError(f"{path} does not match its checksum in SHA256SUMS; restore it from git or run `make assets`")
    return path


def world_files(folder: str) -> list[Path]:
    """Every recorded file under one folder of the tiny world, each verified."""
    names = [name for name in _world_checksums(data_folder()) if name.startswith(f"{folder}/")]
    return [world_file(name) for name in names]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write to the yielded sibling path; it replaces `path` only when the block ends well.

    A process killed inside the block leaves the old file (or folder) as it was.  Only where a
    folder replaces another is there an instant, between two renames, without either.
    """
    from safetensors import SafetensorError

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    target = scratch / path.name
    try:
        yield target
        _flush(target)
        if path.is_dir() and not target.is_dir():
            raise FileExistsError(f"{path} is a folder, where a file was to be written; move it away or choose another name")
        if path.is_dir():
            path.rename(scratch / "old")  # a folder cannot replace a non-empty one
        os.replace(target, path)
        _flush_folder(path.parent)
    except (SafetensorError, OSError) as error:  # a full disk, a quota, a limit on files: safetensors wraps them all
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(f"{path} cannot be written ({error}); free some space or choose another folder") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _flush(path: Path) -> None:
    """Push to disk, so that a rename never outlives the bytes it names."""
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with open(file, "r+b") as handle:  # Windows flushes only what can be written
            os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def write_json(path: Path, value: object) -> None:
    """Write JSON whole or not at all."""
    with atomic_path(path) as scratch:
        scratch.write_text(json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict:
    """The JSON object in a file; DamagedFileError, naming it, where there is none."""
    try:
        value = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} is not readable JSON ({error}); restore it") from error
    if not isinstance(value, dict):
        raise DamagedFileError(f"{path} holds no JSON object but {type(value).__name__}; restore it")
    return value


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as one safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    with atomic_path(path) as scratch:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, scratch)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of one safetensors file; anything else (a pickle, a cut file) is refused by name."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedFileError(f"{path} cannot be read as safetensors ({error}); pickled weights are not loaded") from error


def require_space(folder: Path, num_bytes: int) -> None:
    """Raise OSError, before anything is written, where `folder`'s disk cannot take `num_bytes`."""
    existing = next(p for p in [Path(folder).absolute(), *Path(folder).absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        needed, there = (f"{count / 1e6:,.0f} MB" if num_bytes > 1e7 else f"{count / 1e3:,.0f} kB" for count in (num_bytes, free))
        raise OSError(f"{folder} needs {needed} but its disk has {there} free; free some space or choose another folder")
