"""Result tables: every run's rows in files of its own, and joined into the tables that are committed.

A row says which run it belongs to (task, method, seed, ..., the world's and the code's version),
so that a joined table can be taken apart again: runs that it holds already are not repeated.
"""

from __future__ import annotations

import csv
import functools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from .. import __version__
from ..support.files import atomic_path, sha256
from ..support.world import world_version

SUFFIXES = ("", "_losses", "_replacement")  # scores; loss along the chain; scores when the source model takes the last steps
Row = dict[str, Any]


@functools.cache
def code_version() -> str:
    """The package's version, and eight digits of the SHA-256 over its sources: "0.1.0+1a2b3c4d"."""
    package = Path(__file__).parents[1]
    names = sorted((path.relative_to(package).as_posix() for path in package.rglob("*.py")), key=lambda name: name.split("/"))
    return f"{__version__}+{sha256(*(part for name in names for part in (name, package / name)))[:8]}"


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
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as scratch, open(scratch, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def with_suffix(path: Path, suffix: str, extension: str = ".csv") -> Path:
    """The table of another kind beside a table: results/pilot.csv -> results/pilot_losses.csv."""
    return path.with_name(f"{path.stem}{suffix}{extension}")


def join(identities: Mapping[Path, Row], results: Path) -> None:
    """Write the rows of the runs, kind by kind, to `results` and its siblings; rows of other runs that are there stay.

    `identities`: where each run keeps its rows, and the columns by which they are known.
    """
    known = _known(identities)
    for suffix in SUFFIXES:
        path = with_suffix(results, suffix)
        rows = [row for row in read_rows(path) if _run_of(row, known) is None]
        rows += [row for table in identities for row in kept_rows(with_suffix(table, suffix))]
        if rows or not suffix:
            write_rows(path, rows)


def restore(identities: Mapping[Path, Row], results: Path) -> None:
    """Take joined tables apart again, for the runs that have no table of their own yet."""
    known = _known({table: row for table, row in identities.items() if not table.is_file()})
    for suffix in reversed(SUFFIXES):  # scores last: they are what makes a run count as done
        found: dict[Path, list[Row]] = defaultdict(list)
        for row in kept_rows(with_suffix(results, suffix)) if known else []:
            table = _run_of(row, known)
            if table is not None:
                found[table].append(row)
        for table, rows in found.items():
            write_rows(with_suffix(table, suffix), rows)


def _known(identities: Mapping[Path, Row]) -> dict[frozenset[tuple[str, str]], Path]:
    return {frozenset((key, str(value)) for key, value in row.items()): table for table, row in identities.items()}


def _run_of(row: Row, known: Mapping[frozenset[tuple[str, str]], Path]) -> Path | None:
    """Which of the known runs a row belongs to."""
    columns = {key for key, _ in next(iter(known), ())}
    return known.get(frozenset((key, row[key]) for key in columns if key in row))


def restore_arrays(files: Mapping[str, Path], results: Path) -> None:
    """The same for the pictures kept of each run: an npz file by name, out of the joined one."""
    if not results.is_file():
        return
    with np.load(results, allow_pickle=False) as kept:
        for name, path in files.items():
            if name in kept and not path.is_file():
                save_array(path, kept[name])


def save_array(path: Path, images: np.ndarray) -> None:
    """Keep one run's pictures, uint8 (n, H, W), as `images` in an npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as scratch:
        np.savez_compressed(scratch, images=images)


def join_arrays(files: Mapping[str, Path], results: Path) -> None:
    """Write the runs' pictures by name into one npz file; those of other runs that are there stay."""
    arrays = {}
    if results.is_file():
        with np.load(results, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept}
    arrays |= {name: np.load(path, allow_pickle=False)["images"] for name, path in files.items() if path.is_file()}
    with atomic_path(results) as scratch:
        np.savez_compressed(scratch, **arrays)


def best_rates(rows: Sequence[Row], guidance: str = "1.5") -> dict[str, float]:
    """The learning rate that serves each method best: lowest geometric mean over tasks of its best score at any step count.

    A rate counts where it was tried on every task; a method with fewer than two such rates is left out.
    """
    scores: dict[tuple[str, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["guidance"] == guidance:
            scores[row["method"], float(row["learning_rate"])][row["task"]].append(float(row["fid"]))
    tasks = {task for found in scores.values() for task in found}
    complete: dict[str, dict[float, float]] = defaultdict(dict)  # by method and rate: the logarithm of the mean, times the tasks
    for (method, rate), found in scores.items():
        if found.keys() == tasks:
            complete[method][rate] = sum(math.log(min(fids)) for fids in found.values())
    return {method: min(rates, key=rates.__getitem__) for method, rates in complete.items() if len(rates) > 1}
