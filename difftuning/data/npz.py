"""Pictures of an npz file: one split of uint8 arrays; pickled arrays are refused, never loaded."""

from __future__ import annotations

import functools
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..support.files import DamagedFileError, one_line
from .pictures import fit, to_images
from .sets import Pictures, digest, find_split

MOST_CLASSES = 100_000  # that an npz file may have without their names


def npz_pictures(path: Path, split: str, size: int | None, class_names: Sequence[str] | None = None) -> Pictures:
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
    all_labels = npz_arrays(path, [f"{p}labels" for p in prefixes.values()])
    images, labels = npz_arrays(path, [f"{prefix}images"])[f"{prefix}images"], all_labels[f"{prefix}labels"]
    _check_arrays(path, images, labels, size)
    if class_names is None and "class_names" in names:
        class_names = npz_arrays(path, ["class_names"])["class_names"].astype(str).reshape(-1).tolist()
    if class_names is None:
        most = max(int(table.max()) if len(table) else -1 for table in all_labels.values())
        if most >= MOST_CLASSES:
            raise ValueError(f"{path}: label {most} is too large to be a class (labels count from 0); renumber them or give class_names")
        class_names = [str(label) for label in range(most + 1)]
    labels = labels.astype(np.int64)
    image_size = images.shape[1] if size is None else size
    reader = functools.partial(_read_array, images, image_size)
    return Pictures(torch.from_numpy(labels), list(class_names), reader, image_size, digest(images.shape, images, labels, image_size))


def _check_arrays(path: Path, images: np.ndarray, labels: np.ndarray, size: int | None) -> None:
    pictures = images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)) and 0 not in images.shape[1:]
    if not pictures or labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{path}: images are uint8 of shape (N, H, W) or (N, H, W, 3), labels whole numbers of shape (N,), "
            f"got {images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
        )
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


def _npz_names(path: Path) -> list[str]:
    with _npz_errors(path), np.load(path, allow_pickle=False) as arrays:
        return list(arrays.files)


def npz_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those arrays of an npz file by name; DamagedFileError where one is not there or cannot be read."""
    with _npz_errors(path), np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in names}


@contextmanager
def _npz_errors(path: Path) -> Iterator[None]:
    """numpy's errors in one line that names the file; pickled arrays are refused, never loaded."""
    try:
        zipfile.ZipFile(path).close()  # numpy takes other files for a single array or a pickle
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, NotImplementedError, ValueError) as error:
        advice = "restore it, or write it with np.savez: numbers as integers, names as unicode, for pickled objects are never loaded"
        raise DamagedFileError(f"{path} is damaged or no npz file ({type(error).__name__}: {one_line(error)}); {advice}") from error
