"""Data sets of the hub and of the `datasets` library, found by the types of their columns; no data set's own code is run."""

from __future__ import annotations

import functools
import io
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..support.files import one_line
from ..support.hub import require_on_hub, split_revision
from ..support.names import one_form
from .content import content_digests
from .pictures import read_pictures
from .sets import DEFAULT_SIZE, Pictures, digest, find_split

if TYPE_CHECKING:
    from datasets import Dataset

SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` of the datasets library writes: of several splits, of one


def load_hub_pictures(name: str, split: str, size: int | None) -> Pictures:
    """A data set of the hub, or a local folder of parquet files, through the `datasets` library.

    No data set's own code is run.  FileNotFoundError where there is no such set or no network.
    """
    import datasets

    source, revision = name, None
    if not Path(name).is_dir():
        source, revision = split_revision(name)
        require_on_hub(source, "dataset", revision)
    with _hub_errors(name):
        splits = datasets.get_dataset_split_names(source, revision=revision)
    found = find_split(split, splits, name)
    with _hub_errors(name):
        dataset = datasets.load_dataset(source, split=found, revision=revision)
    contents = _contents(Path(name))  # of all splits
    return find_dataset_pictures(dataset, name, size, contents and [found, *contents])


def load_saved_pictures(folder: Path, split: str, size: int | None) -> Pictures:
    """What `save_to_disk` of the `datasets` library has left in a folder; a set of one split is all training pictures."""
    import datasets

    with _hub_errors(str(folder)):
        saved = datasets.load_from_disk(str(folder))
    places = {name: folder / name for name in saved} if isinstance(saved, dict) else {"train": folder}
    saved = saved if isinstance(saved, dict) else {"train": saved}
    found = find_split(split, list(saved), folder)
    return find_dataset_pictures(saved[found], str(folder), size, _contents(places[found]))


def _contents(folder: Path) -> list[str] | None:
    """Digests of a local folder's files: the library's own fingerprint is of their places and times.  None for a hub id, whose fingerprint is of its version."""
    if not folder.is_dir():
        return None
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".parquet", ".arrow")]
    return content_digests(sorted(paths, key=lambda path: one_form(path.relative_to(folder).as_posix())))


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:  # not there, no network, several configurations, a script
        raise FileNotFoundError(f"the datasets library cannot load {name!r} ({one_line(error)})") from error


def find_dataset_pictures(dataset: Dataset, name: str, size: int | None, contents: list[str] | None = None) -> Pictures:
    """Pictures and labels of a loaded `datasets.Dataset`, found by the types of its columns; `contents` tells it from others.

    Of several columns of one type the one named image, img or label is taken, else the first,
    with a warning.  Rows are decoded when read; headers are not checked beforehand.
    """
    import datasets

    size = DEFAULT_SIZE if size is None else size
    picture_column = _column(dataset, datasets.Image, ("image", "img"), name)
    label_column = _column(dataset, datasets.ClassLabel, ("label",), name)
    labels = list(dataset[label_column])
    if None in labels:
        raise ValueError(f"{name}: row {labels.index(None)} has no {label_column}; every picture needs one")
    class_names = list(dataset.features[label_column].names)
    encoded = dataset.select_columns([picture_column]).cast_column(picture_column, datasets.Image(decode=False))
    reader = functools.partial(_read_rows, encoded, picture_column, name, size)
    return Pictures(
        torch.tensor(labels, dtype=torch.int64), class_names, reader, size, digest(contents or dataset._fingerprint, labels, size)
    )


def _column(dataset: Dataset, kind: type, usual: Sequence[str], name: str) -> str:
    columns = [column for column, feature in dataset.features.items() if isinstance(feature, kind)]
    if not columns:
        found = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in dataset.features.items())
        raise ValueError(f"{name} has no column of type {kind.__name__}, only {found}; cast it to datasets.{kind.__name__}")
    named = [column for column in usual if column in columns]
    if not named and len(columns) > 1:
        warnings.warn(f"{name} has the {kind.__name__} columns {', '.join(columns)}; {columns[0]!r} is taken", stacklevel=6)
    return (named or columns)[0]


def _read_rows(dataset: Dataset, column: str, name: str, size: int, chosen: np.ndarray) -> Tensor:
    rows = dataset[chosen.tolist()][column] if len(chosen) else []
    for i, row in zip(chosen, rows):
        if row is None:
            raise ValueError(f"{name}: row {i} has no picture")
    sources = [row["path"] if row["bytes"] is None else io.BytesIO(row["bytes"]) for row in rows]
    return read_pictures([(source, f"{name}, row {i},") for i, source in zip(chosen, sources)], size)
