"""Tasks: a small labelled set of pictures to adapt to, whatever it is kept in.

A `Task` knows its labels at once and reads pictures when asked (`read`), so that a folder of
100,000 photographs is never in memory as a whole.  Sources: the tiny world's tasks, npz
files (npz.py), folders of class folders (folders.py) and data sets of the hub (hub.py).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import re
from pathlib import Path
from typing import Callable, Literal, Sequence

import numpy as np
import torch
from torch import Tensor

from ..support.files import read_json
from ..support.hub import is_hub_id
from ..support.names import one_form, user_path
from ..support.settings import COUNT, plain, require_within
from ..support.surroundings import undisturbed
from ..support.world import data_folder, world_file
from .folders import find_folder_pictures
from .hub import SAVED, load_hub_pictures, load_saved_pictures
from .npz import npz_arrays, npz_pictures
from .pictures import SUFFIXES
from .sets import Pictures, digest, distinct_names

READ_ALL_LIMIT = 8e9  # bytes of float32 that `Task.images` may fill


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A labelled set of pictures.

    `labels` (N,) int64 index `class_names`, which differ; `flip` says whether a mirrored picture is still of
    its class (of the user's own data nothing is known: False; `dataclasses.replace(task,
    flip=True)` allows it); `fingerprint` changes with pictures, labels and size; `card` holds
    licence and source ({} for the user's own data); `kinds` (N names) only for the source sample.
    """

    name: str
    class_names: list[str]
    labels: Tensor = dataclasses.field(repr=False)
    reader: Callable[[np.ndarray], Tensor] = dataclasses.field(repr=False)
    image_size: int
    fingerprint: str
    flip: bool = False
    card: dict = dataclasses.field(default_factory=dict, repr=False)
    kinds: list[str] | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise ValueError(f"{self.name} has no pictures")
        object.__setattr__(self, "class_names", distinct_names(self.class_names, self.name))
        wrong = (self.labels < 0) | (self.labels >= len(self.class_names))
        if wrong.any():
            i = int(wrong.nonzero()[0])
            raise ValueError(f"{self.name}: label {int(self.labels[i])} of picture {i} is outside 0..{len(self.class_names) - 1}")

    def __repr__(self) -> str:
        size = self.image_size
        return f"<Task {self.name}: {len(self)} pictures of {len(self.class_names)} classes, {size}x{size}>"

    def __len__(self) -> int:
        return len(self.labels)

    @undisturbed
    def read(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Just those pictures: float32 (n, 3, H, W) in [-1, 1]; indices are positions or a mask."""
        return self.reader(self._positions(indices).numpy())

    @functools.cached_property
    def images(self) -> Tensor:
        """Every picture, float32 (N, 3, H, W) in [-1, 1]; ValueError where that would fill the memory."""
        num_bytes = len(self) * 3 * self.image_size**2 * 4
        if num_bytes > READ_ALL_LIMIT:
            raise ValueError(f"{self.name} takes {num_bytes / 1e9:.0f} GB in one piece; use task.read(indices)")
        return self.read(range(len(self)))

    @property
    def kind_of(self) -> dict[int, str]:
        """The kind (photograph, letter, ...) of each label, in their order; {} where pictures have no kinds."""
        return dict(sorted(zip(self.labels.tolist(), self.kinds or [])))

    def subset(self, indices: Sequence[int] | np.ndarray | Tensor) -> Task:
        """The same task with those pictures only, in that order."""
        chosen = self._positions(indices)
        return dataclasses.replace(
            self,
            labels=self.labels[chosen],
            reader=functools.partial(_read_chosen, self.reader, chosen.numpy()),
            fingerprint=digest(self.fingerprint, chosen.numpy()),
            kinds=None if self.kinds is None else [self.kinds[i] for i in chosen.tolist()],
        )

    @undisturbed
    def _positions(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        chosen = torch.as_tensor(indices if isinstance(indices, (Tensor, np.ndarray)) else list(indices)).cpu().reshape(-1)
        if not chosen.numel():
            chosen = chosen.long()  # an empty list is taken for floats
        return torch.arange(len(self))[chosen]


def list_tasks() -> list[str]:
    """Names of the tiny world's tasks, sorted."""
    return sorted(path.stem for path in (data_folder() / "tasks").glob("*.json"))


@undisturbed
def load_task(source: str | os.PathLike, *, split: Literal["train", "validation", "test"] = "train", size: int | None = None) -> Task:
    """A task by name ("digits"), from a folder of class folders, an npz file or a hub id ("org/name").

    Folders of the `datasets` library (parquet files, `save_to_disk`) are read as the hub's sets are.

    A tiny-world name wins over a folder of that name; write "./digits" for the folder.  `size`
    crops and resizes to squares (transparent parts of picture files become white); None keeps the size of tiny-world tasks and npz files, and
    means 256 elsewhere.  An npz file holds `images` uint8 (N, H, W) or (N, H, W, 3) and
    `labels` (N,), or both for each split (`train_images`, ...), and if you like `class_names`.

    Raises FileNotFoundError for a source that is nowhere, DamagedFileError for an unreadable
    file, ValueError for contents that are no such set; each names the value and the fix.
    """
    if (size := plain("size", "int | None", size)) is not None:
        require_within("size", size, COUNT)
    if not os.fspath(source):
        raise FileNotFoundError(f"no task '' (an empty name); the tiny world has {', '.join(_tasks_if_any())}")
    path = user_path(source)
    if source in _tasks_if_any():
        return _load_world_task(source, split, size)
    if any((path / name).is_file() for name in SAVED):
        return _task(path.resolve().name, load_saved_pictures(path, split, size))
    if path.is_dir():
        parquet = any(path.glob("*.parquet")) or any(path.glob("data/*.parquet"))
        pictures = load_hub_pictures(str(path), split, size) if parquet else find_folder_pictures(path, split, size)
        return _task(path.resolve().name, pictures)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        beside = f", such as {other} beside it" if (other := path.with_suffix(".npz")).is_file() else ""
        raise ValueError(f"{path} is one picture: give a folder whose sub-folders are the classes, or an npz file{beside}")
    if path.is_file():
        return _task(path.stem, npz_pictures(path, split, size))
    return _load_hub_task(source, split, size)


@undisturbed
def load_source(split: Literal["train", "heldout"] = "train", *, size: int | None = None) -> Task:
    """The shipped sample of the pictures that the tiny models were pre-trained on, or its held-out part."""
    card = read_json(world_file("source/source.json"))
    path = world_file("source/source.npz")
    pictures = npz_pictures(path, split, size, class_names=card["class_names"])
    kinds = [card["kinds"][kind] for kind in npz_arrays(path, [f"{split}_kinds"])[f"{split}_kinds"].tolist()]
    return _task("source", pictures, flip=bool(card.get("flip", False)), card=card, kinds=kinds)


def _task(name: str, pictures: Pictures, **extra: object) -> Task:
    return Task(one_form(name), pictures.class_names, pictures.labels, pictures.reader, pictures.image_size, pictures.fingerprint, **extra)


def _load_world_task(name: str, split: str, size: int | None) -> Task:
    card = read_json(world_file(f"tasks/{name}.json"))
    pictures = npz_pictures(world_file(f"tasks/{name}.npz"), split, size, class_names=card["class_names"])
    return _task(name, pictures, flip=card["flip"], card=card)


def _load_hub_task(source: str | os.PathLike, split: str, size: int | None) -> Task:
    """Ask the hub for what is neither task nor path, but not for a misspelt task."""
    word = isinstance(source, str) and re.fullmatch(r"[\w -]+", source) is not None
    near = difflib.get_close_matches(source.strip().lower(), list_tasks(), n=3, cutoff=0.6) if word else []
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    mistyped_path = "/" in str(source) and Path(source).parent.is_dir()  # data/mydigts, where there is a data/: no hub id
    if is_hub_id(source) and not mistyped_path:
        try:
            return _task(source, load_hub_pictures(source, split, size))
        except FileNotFoundError as error:
            hint = f", and {error}"
    tasks = f"; the tiny world has {', '.join(list_tasks())}" if word else ""
    raise FileNotFoundError(f"no task, folder or npz file {str(source)!r}{hint}{tasks}")


def _tasks_if_any() -> list[str]:
    try:
        return list_tasks()
    except FileNotFoundError:  # the user's own data need no tiny world
        return []


def spread_evenly(length: int, count: int) -> Tensor:
    """`count` positions spread evenly over a set of `length` that is sorted by class; int64 (count,)."""
    return torch.linspace(0, length - 1, count, dtype=torch.float32, device="cpu").long()


def _read_chosen(reader: Callable[[np.ndarray], Tensor], positions: np.ndarray, chosen: np.ndarray) -> Tensor:
    return reader(positions[chosen])
