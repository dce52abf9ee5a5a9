"""Files that can be trusted: checksums, atomic writes, room on the disk.

Nothing here reads a pickle: tensors live in safetensors, tables in CSV, the rest in JSON.  Text is UTF-8 on every system.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Mapping

if TYPE_CHECKING:
    from torch import Tensor

SCRATCH = re.compile(r"\.difftuning-(\d+)@(.+)-\w+")  # what is being written: by which process, on which machine
OLD = ".old"  # ends the name of a folder that is being replaced
FORGOTTEN = 24 * 3600  # seconds after which scratch is nobody's, where its process cannot be asked
SEAL = "sha256_of_the_rest"


class DamagedFileError(RuntimeError):
    """A file is missing, truncated or altered; the message names it and says what to do."""


def one_line(error: BaseException) -> str:
    """An error's text on one line of 200 characters at most; its type where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."


# Whether files are what they were ------------------------------------------------------------


def sha256(*parts: object) -> str:
    """Hexadecimal SHA-256 of the parts one after the other: a file's bytes for a Path, UTF-8 for a text, an array's numbers."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with open(part, "rb") as file:
                while block := file.read(2**20):
                    state.update(block)
        else:
            state.update(part.encode() if isinstance(part, str) else part)
    return state.hexdigest()


def checksum_list(path: Path, checksums: object) -> dict[str, str]:
    """The checksums by file name that `path` lists; DamagedFileError, naming it, where they are none."""
    digest = re.compile("[0-9a-f]{64}")
    if not isinstance(checksums, dict) or not all(isinstance(text, str) and digest.fullmatch(text) for text in checksums.values()):
        raise DamagedFileError(f"{path} is damaged: its list of checksums is none; restore it")
    return checksums


def verify(folder: Path, checksums: Mapping[str, str]) -> list[str]:
    """Names of the files in `folder` that are missing, cut off or altered."""
    return [name for name, digest in checksums.items() if not (folder / name).is_file() or sha256(folder / name) != digest]


def is_ours(folder: Path, *marks: str) -> bool:
    """Whether one of our files `marks` lies in `folder`; False where nothing does, FileExistsError where it holds something else.

    Hidden files (of a desktop, of a write that was killed) do not count.
    """
    if not folder.exists():
        return False
    if folder.is_dir():
        if any((folder / mark).is_file() for mark in marks):
            return True
        if all(path.name.startswith(".") for path in folder.iterdir()):
            return False
    raise FileExistsError(f"{folder} is not empty and holds something else; choose another folder")


# Whole or not at all -------------------------------------------------------------------------


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write to the yielded path; it replaces `path` only when the block ends well.

    A process killed inside the block leaves the old file (or folder) as it was, and scratch that the next write
    beside it sweeps away.  Only where a folder replaces another is there an instant, between two renames, without either: after
    an error there the old one is put back at once, after a kill by the next write.
    """
    from safetensors import SafetensorError

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    scratch = Path(tempfile.mkdtemp(prefix=f".difftuning-{os.getpid()}@{socket.gethostname()}-", dir=path.parent))
    target, old = scratch / path.name, scratch / f"{path.name}{OLD}"
    try:
        yield target
        _flush(target)
        try:
            if path.is_dir() and target.is_dir():
                path.rename(old)  # a folder cannot replace a non-empty one
            os.replace(target, path)
        except BaseException:
            _put_back(old, path)
            raise
        _flush_folder(path.parent)
    except (SafetensorError, OSError) as error:  # a full disk, a quota, a limit on files: safetensors wraps them all
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(f"{path} cannot be written ({error}); free some space or choose another folder") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _flush(path: Path) -> None:
    """Push to disk, so that a rename never outlives the bytes it names; and give files the mode that the user's umask says.

    safetensors makes its files for the user's eyes alone.
    """
    usual = path.parent / ".mode"
    usual.touch(0o666)
    mode = usual.stat().st_mode & 0o777
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with suppress(OSError):  # some shared folders have no modes
            file.chmod(mode)
        with open(file, "r+b") as handle:  # Windows flushes only what can be written
            os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    with suppress(OSError):  # Windows cannot open a folder, many network and shared folders cannot flush one
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove from `folder` what processes that were killed while writing have left."""
    for path in folder.glob(".difftuning-*"):
        found = SCRATCH.fullmatch(path.name)
        if found and _is_forgotten(path, int(found[1]), found[2]):
            for old in path.glob(f"*{OLD}"):
                _put_back(old, folder / old.name.removesuffix(OLD))
            shutil.rmtree(path, ignore_errors=True)


def _put_back(old: Path, path: Path) -> None:
    if old.exists() and not path.exists():
        with suppress(OSError):
            old.rename(path)


def _is_forgotten(scratch: Path, process: int, machine: str) -> bool:
    if machine == socket.gethostname() and os.name == "posix":
        try:
            os.kill(process, 0)  # asks, and does nothing
        except ProcessLookupError:
            return True
        except OSError:  # of another user: alive
            pass
    with suppress(OSError):  # gone meanwhile
        return time.time() - scratch.stat().st_mtime > FORGOTTEN
    return False


# Formats -------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """A text file, with or without a byte-order mark, its lines ended as on any system."""
    return Path(path).read_text(encoding="utf-8-sig")


def write_text(path: Path, text: str) -> None:
    """Write text whole or not at all, to the same bytes on every system."""
    with atomic_path(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: dict, *, sealed: bool = False) -> None:
    """Write JSON whole or not at all; `sealed` with a checksum of its own, which `read_json` looks at."""
    write_text(path, json.dumps(value | {SEAL: _seal(value)} if sealed else value, indent=1) + "\n")


def read_json(path: Path) -> dict:
    """The JSON object in a file; DamagedFileError, naming it, where there is none or its seal is broken."""
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # RecursionError: nested a thousand deep
        raise DamagedFileError(f"{path} is not readable JSON ({error}); restore it") from error
    if not isinstance(value, dict) or (SEAL in value and value.pop(SEAL) != _seal(value)):
        raise DamagedFileError(f"{path} holds no JSON object, or one that does not match its own checksum; restore it")
    return value


def _seal(value: dict) -> str:
    return sha256(json.dumps(value, sort_keys=True))


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
