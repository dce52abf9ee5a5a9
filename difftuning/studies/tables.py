"""Result tables that only grow: every row is one measurement, added as soon as it is made.

A row says which run it belongs to (task, method, seed, ..., the world's and the code's version) and where in it it was
measured.  What a table holds already is never written again: rows of other runs and worlds stay, byte for byte.
"""

from __future__ import annotations

import csv
import functools
import io
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from .. import __version__
from ..data.pictures import to_pixels
from ..support.files import atomic_path, sha256
from ..support.lock import FolderLock
from ..support.world import world_version

SUFFIXES = ("", "_losses", "_replacement")  # scores; loss along the chain; scores when the source model takes the last steps
Row = dict[str, Any]


@functools.cache
def code_version() -> str:
    """The package's version, and eight digits of the SHA-256 over its sources: "0.1.0+1a2b3c4d"."""
    package = Path(__file__).parents[1]
    names = sorted((path.relative_to(package).as_posix() for path in package.rglob("*.py")), key=lambda name: name.split("/"))
    return f"{__version__}+{sha256(*(part for name in names for part in (name, package / name)))[:8]}"


def with_suffix(path: Path, suffix: str, extension: str = ".csv") -> Path:
    """The table of another kind beside a table: results/pilot.csv -> results/pilot_losses.csv."""
    return path.with_name(f"{path.stem}{suffix}{extension}")


def read_rows(path: Path) -> list[Row]:
    """The rows of a table as text, [] where there is none."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def kept_rows(path: Path) -> list[Row]:
    """The rows of a table that are of this world."""
    world = world_version()
    return [row for row in read_rows(path) if row["world"] == world]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a table whole or not at all; rows may lack columns that others have."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_path(path) as scratch:
        scratch.write_bytes(_lines([dict(zip(columns, columns)), *rows], columns))


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to a table in one write, a new one with its header; what stands in it stays as it is.

    Other processes wait meanwhile.  ValueError where the table lacks a column of theirs: it was made by other code.
    """
    if not rows:
        return
    with alone_beside(path):
        _drop_torn_line(path)
        with open(path, "ab+") as file:
            file.seek(0)
            header = file.readline()
            columns = next(csv.reader([header.decode("utf-8-sig")])) if header else list(rows[0])
            if unknown := [key for row in rows for key in row if key not in columns]:
                raise ValueError(f"{path} has no column {unknown[0]!r}: it is another kind of table; choose another file for the results")
            new = rows if header else [dict(zip(columns, columns)), *rows]
            file.write(_lines(new, columns, ending="\n" if header.endswith(b"\n") and not header.endswith(b"\r\n") else "\r\n"))


def drop_torn_line(path: Path) -> None:
    """Cut off a last line that a killed process has left unfinished."""
    if path.is_file():
        with alone_beside(path):
            _drop_torn_line(path)


def _drop_torn_line(path: Path) -> None:
    if path.is_file():
        text = path.read_bytes()
        if len(text) > (whole := text.rfind(b"\n") + 1):
            with open(path, "r+b") as file:
                file.truncate(whole)


def _lines(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], ending: str = "\r\n") -> bytes:
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns, lineterminator=ending).writerows(rows)
    return text.getvalue().encode()


@contextmanager
def alone_beside(path: Path) -> Iterator[None]:
    """The folder of a file for this process alone, as soon as no other is in such a block there."""
    while True:
        try:
            lock = FolderLock(path.parent)
            break
        except BlockingIOError:
            time.sleep(0.02)
    with lock:
        yield


def samples_file(file_name: str, folder: Path) -> Path:
    """Where a run keeps some of its pictures until they are joined."""
    return folder / f"{file_name}_samples.npz"


def grey(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) in [-1, 1] as grey 8-bit pictures, uint8 (N, H, W)."""
    return to_pixels(images.mean(1))


def save_array(path: Path, images: np.ndarray) -> None:
    """Keep one run's pictures, uint8 (n, H, W), as `images` in an npz file."""
    with atomic_path(path) as scratch:
        np.savez_compressed(scratch, images=images)


def join_arrays(files: Mapping[str, Path], results: Path) -> None:
    """Move the runs' pictures, by name, into one npz file; those of other runs that are there stay."""
    files = {name: path for name, path in files.items() if path.is_file()}
    if not files:
        return
    with alone_beside(results):
        arrays = {}
        if results.is_file():
            with np.load(results, allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in kept}
        for name, path in files.items():
            with np.load(path, allow_pickle=False) as own:
                arrays[name] = own["images"]
        with atomic_path(results) as scratch:
            np.savez_compressed(scratch, **arrays)
    for path in files.values():
        path.unlink()
