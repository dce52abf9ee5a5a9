"""Tasks: a small labelled set of pictures to adapt to, whatever it is kept in.

A `Task` knows its labels at once and reads pictures when asked (`read`), so that a folder of
100,000 photographs is never in memory as a whole.  Sources: the tiny world's tasks, npz
files, folders of class folders and data sets of the hub (folders.py).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import re
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Literal, Sequence

import numpy as np
import torch
from torch import Tensor

from .files import DamagedFileError, data_folder, read_json, world_file
from .folders import (
    SAVED,
    SPLITS,
    Pictures,
    digest,
    find_folder_pictures,
    find_split,
    fit,
    load_hub_pictures,
    load_saved_pictures,
    require_on_hub,
    to_images,
)
from .settings import plain

MOST_CLASSES = 100_000  # that an npz file may have without their names
READ_ALL_LIMIT = 8e9  # bytes of float32 that `Task.images` may fill


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A labelled set of pictures.

    `labels` (N,) int64 index `class_names`; `flip` says whether a mirrored picture is still of
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
        wrong = (self.labels < 0) | (self.labels >= len(self.class_names))
        if wrong.any():
            i = int(wrong.nonzero()[0])
            raise ValueError(f"{self.name}: label {int(self.labels[i])} of picture {i} is outside 0..{len(self.class_names) - 1}")

    def __len__(self) -> int:
        return len(self.labels)

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

    def _positions(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        chosen = torch.as_tensor(indices if isinstance(indices, (Tensor, np.ndarray)) else list(indices)).cpu().reshape(-1)
        if not chosen.numel():
            chosen = chosen.long()  # an empty list is taken for floats
        return torch.arange(len(self))[chosen]


def list_tasks() -> list[str]:
    """Names of the tiny world's tasks, sorted."""
    return sorted(path.stem for path in (data_folder() / "tasks").glob("*.json"))


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
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    size = plain("size", "int | None", size)
    if size is not None and size < 1:
        raise ValueError(f"size is a number of pixels, at least 1, got {size!r}")
    if not os.fspath(source):
        raise FileNotFoundError(f"no task '' (an empty name); the tiny world has {', '.join(_tasks_if_any())}")
    path = Path(source)
    if source in _tasks_if_any():
        return _load_world_task(source, split, size)
    if any((path / name).is_file() for name in SAVED):
        return _task(path.resolve().name, load_saved_pictures(path, split, size))
    if path.is_dir():
        parquet = any(path.glob("*.parquet")) or any(path.glob("data/*.parquet"))
        pictures = load_hub_pictures(str(path), split, size) if parquet else find_folder_pictures(path, split, size)
        return _task(path.resolve().name, pictures)
    if path.suffix == ".npz" or path.is_file():
        return _task(path.stem, _npz_pictures(path, split, size))
    return _load_hub_task(source, split, size)


def load_source(split: Literal["train", "heldout"] = "train", *, size: int | None = None) -> Task:
    """The shipped sample of the pictures that the tiny models were pre-trained on, or its held-out part."""
    if split not in ("train", "heldout"):
        raise ValueError(f"unknown split {split!r}: choose train or heldout")
    card = read_json(world_file("source/source.json"))
    path = world_file("source/source.npz")
    pictures = _npz_pictures(path, split, size, class_names=card["class_names"])
    kinds = [card["kinds"][kind] for kind in _npz_arrays(path, [f"{split}_kinds"])[f"{split}_kinds"].tolist()]
    return _task("source", pictures, flip=bool(card.get("flip", False)), card=card, kinds=kinds)


def _task(name: str, pictures: Pictures, **extra: object) -> Task:
    return Task(name, pictures.class_names, pictures.labels, pictures.reader, pictures.image_size, pictures.fingerprint, **extra)


def _load_world_task(name: str, split: str, size: int | None) -> Task:
    card = read_json(world_file(f"tasks/{name}.json"))
    pictures = _npz_pictures(world_file(f"tasks/{name}.npz"), split, size, class_names=card["class_names"])
    return _task(name, pictures, flip=card["flip"], card=card)


def _load_hub_task(source: str | os.PathLike, split: str, size: int | None) -> Task:
    """Ask the hub for what is neither task nor path, but not for a misspelt task."""
    word = isinstance(source, str) and re.fullmatch(r"[\w -]+", source) is not None
    near = difflib.get_close_matches(source.strip().lower(), list_tasks(), n=3, cutoff=0.6) if word else []
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    mistyped_path = "/" in str(source) and Path(source).parent.is_dir()  # data/mydigts, where there is a data/: no hub id
    if not near and not mistyped_path and isinstance(source, str) and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source):
        try:
            if "/" not in source:
                require_on_hub(source)
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


# npz files ----------------------------------------------------------------------------------


def _npz_pictures(path: Path, split: str, size: int | None, class_names: Sequence[str] | None = None) -> Pictures:
    """One split of an npz file.  Without class names the labels of all splits say how many there are."""
    names = _npz_names(path)
    prefixes = {name.removesuffix("_images"): name.removesuffix("images") for name in names if name.endswith("_images")}
    if not prefixes and "images" in names:
        prefixes = {"train": ""}
    if not prefixes:
        raise ValueError(f"{path} holds {', '.join(names) or 'nothing'}, but no images; name the arrays images and labels")
    prefix = prefixes[find_split(split, list(prefixes), path)]
    for missing in {f"{p}labels" for p in prefixes.values()} - set(names):
        raise ValueError(f"{path} has no array {missing!r} beside its images")
    all_labels = _npz_arrays(path, [f"{p}labels" for p in prefixes.values()])
    images, labels = _npz_arrays(path, [f"{prefix}images"])[f"{prefix}images"], all_labels[f"{prefix}labels"]
    for table in all_labels.values():
        if table.ndim != 1 or not np.issubdtype(table.dtype, np.integer):
            raise ValueError(f"{path}: labels are whole numbers of shape (N,), got {table.dtype} {table.shape}")
    _check_images(path, images, labels, size)
    if class_names is None and "class_names" in names:
        class_names = _npz_arrays(path, ["class_names"])["class_names"].astype(str).reshape(-1).tolist()
    if class_names is None:
        most = max(int(table.max()) if len(table) else -1 for table in all_labels.values())
        if most >= MOST_CLASSES:
            raise ValueError(f"{path}: label {most} is too large to be a class (labels count from 0); renumber them or give class_names")
        class_names = [str(label) for label in range(most + 1)]
    labels = labels.astype(np.int64)
    image_size = images.shape[1] if size is None else size
    reader = functools.partial(_read_array, images, image_size)
    return Pictures(torch.from_numpy(labels), list(class_names), reader, image_size, digest(images.shape, images, labels, image_size))


def _check_images(path: Path, images: np.ndarray, labels: np.ndarray, size: int | None) -> None:
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)) or 0 in images.shape[1:]:
        raise ValueError(f"{path}: images are uint8 of shape (N, H, W) or (N, H, W, 3), got {images.dtype} {images.shape}")
    if len(images) != len(labels):
        raise ValueError(f"{path} has {len(images)} images but {len(labels)} labels; one label belongs to each image")
    if size is None and images.shape[1] != images.shape[2]:
        raise ValueError(f"{path}: images are {images.shape[1]}x{images.shape[2]}, not square; give size= to crop them")


def _read_array(array: np.ndarray, size: int, chosen: np.ndarray) -> Tensor:
    pictures = array[chosen]
    if pictures.shape[1:3] != (size, size):
        from PIL import Image

        resized = np.empty((len(pictures), size, size, *pictures.shape[3:]), dtype=np.uint8)
        for row, picture in zip(resized, pictures):
            row[...] = np.asarray(fit(Image.fromarray(picture), size))
        pictures = resized
    return to_images(pictures)


def spread_evenly(length: int, count: int) -> Tensor:
    """`count` positions spread evenly over a set of `length` that is sorted by class; int64 (count,)."""
    return torch.linspace(0, length - 1, count).long()


def _read_chosen(reader: Callable[[np.ndarray], Tensor], positions: np.ndarray, chosen: np.ndarray) -> Tensor:
    return reader(positions[chosen])


def _npz_names(path: Path) -> list[str]:
    with _npz_errors(path), np.load(path, allow_pickle=False) as arrays:
        return list(arrays.files)


def _npz_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    with _npz_errors(path), np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in names}


@contextmanager
def _npz_errors(path: Path) -> Iterator[None]:
    """numpy's errors in one line that names the file; pickled arrays are refused, never loaded."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if not zipfile.is_zipfile(path):
        raise DamagedFileError(f"{path} is damaged or no npz file (pickles are never loaded); restore it or write it with np.savez")
    try:
        yield
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise DamagedFileError(f"{path} is damaged ({error}); restore or write it again") from error
        raise ValueError(
            f"{path} holds a pickled object array, which is never loaded; save numbers as integers, names as unicode"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, NotImplementedError) as error:
        raise DamagedFileError(f"{path} is damaged ({type(error).__name__}); restore or write it again") from error
