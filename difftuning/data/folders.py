"""Folders of class folders: the user's own pictures.

Nothing is decoded before it is asked for: a set is a list of places, its labels, and a
reader.  The headers of all files are checked first, so that a bad one is named before any work starts.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..support.names import in_order, one_form
from .content import content_digests
from .pictures import SUFFIXES, open_picture, read_pictures, strict_about_bombs
from .sets import DEFAULT_SIZE, OTHER_SPLIT_NAMES, SPLITS, Pictures, digest, find_split

# What programs leave behind, which nobody takes for a class or a picture: left out without a word.
LEFTOVERS = {
    ".ds_store", "thumbs.db", "desktop.ini", ".directory", ".gitkeep", ".git", ".ipynb_checkpoints", "__macosx", "__pycache__",
    ".trashes", ".spotlight-v100", ".fseventsd", ".thumbnails", "@eadir", "$recycle.bin", "system volume information", ".cache",
}  # fmt: skip
TEXTS = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".xml", ".yaml", ".yml"}  # captions and notes that lie beside pictures


def find_folder_pictures(folder: Path, split: str, size: int | None) -> Pictures:
    """A folder of class folders, or of train/validation/test folders that hold them.

    The headers of all files are checked first (nothing is decoded: about 10 s for 75,000
    files), so that a bad file is named before any work starts.  Class names are the folder names
    over all splits, sorted by their characters' numbers: a label means the same class in each.
    A hidden folder or file, a text file, and what lies beside the class folders, is named in a warning.

    Raises ValueError where the folder has no such layout, a class folder has no pictures or
    an inner folder, two names look alike, or a file is no picture.
    """
    size = DEFAULT_SIZE if size is None else size
    splits = _split_folders(folder)
    chosen = splits[find_split(split, list(splits), folder)]
    class_names = sorted({name for place in splits.values() for name in _class_folders(place)})
    classes = _class_folders(chosen)
    if not classes:
        found = "is empty" if not any(chosen.iterdir()) else "has no class folders"
        raise ValueError(f"{chosen} {found}; put the pictures of each class into a sub-folder named after it")
    _warn_of_others(chosen, "the class folders")
    paths: list[Path] = []
    labels: list[int] = []
    for name, place in classes.items():
        files = _picture_files(place)
        paths += files
        labels += [class_names.index(name)] * len(files)
    with strict_about_bombs():
        for path in paths:
            open_picture(path, path, size).close()
    reader = functools.partial(_read_files, paths, size)
    fingerprint = digest(content_digests(paths), labels, class_names, size)
    return Pictures(torch.tensor(labels), class_names, reader, size, fingerprint)


def _split_folders(folder: Path) -> dict[str, Path]:
    """Split name -> folder.  A class may be called "train" (a vehicle): a split holds folders."""
    known = {name for split in SPLITS for name in (split, *OTHER_SPLIT_NAMES[split])}
    inner = _class_folders(folder)
    splits = {name: place for name, place in inner.items() if name in known}
    if splits and (len(splits) == len(inner) or any(_class_folders(place) for place in splits.values())):
        _warn(folder, [name for name in inner if name not in splits], f"not part of {', '.join(splits)}")
        _warn_of_others(folder, "the splits")
        return splits
    return {"train": folder}


def _class_folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder by name, but for hidden ones."""
    found: dict[str, Path] = {}
    for path in in_order(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path)):
        if one_form(path.name) in found:
            raise ValueError(f"{folder} has two folders whose names look alike, {path.name!r} (accents written in two ways); rename one")
        found[one_form(path.name)] = path
    return found


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in LEFTOVERS


def _warn_of_others(folder: Path, what: str) -> None:
    """Name hidden folders, and pictures beside the folders."""
    paths = [path for path in in_order(folder.iterdir()) if not _is_leftover(path)]
    _warn(folder, [path.name for path in paths if path.is_dir() and _is_hidden(path)], "hidden: rename it without its dot if it is a class")
    _warn(folder, [path.name for path in paths if not path.is_dir() and path.suffix.lower() in SUFFIXES], f"a picture beside {what}")


def _is_leftover(path: Path) -> bool:
    return path.name.lower() in LEFTOVERS or path.name.startswith("._")  # macOS keeps a file's colours and icon under the latter


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in TEXTS and not _is_hidden(path)


def _warn(folder: Path, names: Iterable[str], why: str) -> None:
    if names := list(names):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        warnings.warn(f"{folder}: {names[0]!r}{more} is left out ({why})", stacklevel=6)


def _picture_files(folder: Path) -> list[Path]:
    """The files of one class folder, without what operating systems leave behind."""
    if inner := _class_folders(folder):
        raise ValueError(f"{folder} holds the folder {next(iter(inner))!r}; name the folder whose sub-folders are the classes")
    found = [path for path in in_order(folder.iterdir()) if not _is_leftover(path)]
    _warn(folder, [path.name for path in found if _is_hidden(path)], "hidden: rename it without its dot if it holds pictures")
    _warn(folder, [path.name for path in found if _is_text(path)], "a text file")
    # A link that leads nowhere is kept, to be named by whoever opens it.
    files = [path for path in found if not _is_hidden(path) and not _is_text(path) and (path.is_file() or not path.exists())]
    if not files:
        raise ValueError(f"{folder} has no pictures; add some or remove the folder")
    return files


def _read_files(paths: Sequence[Path], size: int, chosen: np.ndarray) -> Tensor:
    return read_pictures([(paths[i], paths[i]) for i in chosen], size)
