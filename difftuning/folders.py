"""Pictures that are the user's own: folders of class folders and data sets of the hub.

Nothing is decoded before it is asked for: a set is a list of places, its labels, and a
reader.  Pictures are cropped and resized as ADM and DiT do it, so that paper-scale runs see
the same pixels.  `Task` (data.py) is built from what the two `find_...` functions return.
"""

from __future__ import annotations

import functools
import hashlib
import io
import struct
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Callable, Iterator, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from .files import DamagedFileError

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no EPS or PDF: those run programs
DEFAULT_SIZE = 256
SPLITS = ("train", "validation", "test")
OTHER_SPLIT_NAMES = {"train": ("training",), "validation": ("val", "valid", "dev"), "test": ("testing",)}


class Pictures(NamedTuple):
    """Labels (N,), what they mean, and how to read pictures: positions (n,) -> float32 (n, 3, size, size)."""

    labels: Tensor
    class_names: list[str]
    reader: Callable[[np.ndarray], Tensor]
    image_size: int
    fingerprint: str


def digest(*parts: object) -> str:
    """Sixteen hex digits that change when any part changes."""
    state = hashlib.sha256()
    for part in parts:
        data = np.ascontiguousarray(part).data.cast("B") if isinstance(part, np.ndarray) and part.size else repr(part).encode()
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.hexdigest()[:16]


def find_split(split: str, available: Sequence[str], where: object) -> str:
    """The name under which `where` keeps a split ("validation" may be "val"); ValueError lists what is there."""
    for name in (split, *OTHER_SPLIT_NAMES.get(split, ())):
        if name in available:
            return name
    only = f"the only split is {available[0]!r}" if len(available) == 1 else f"it has {', '.join(available)}"
    raise ValueError(f"{where} has no split {split!r}: {only}")


# Folders ------------------------------------------------------------------------------------


def find_folder_pictures(folder: Path, split: str, size: int | None) -> Pictures:
    """A folder of class folders, or of train/validation/test folders that hold them.

    The headers of all files are checked first (nothing is decoded: about 10 s for 75,000
    files), so that a bad file is named before any work starts.  Class names are the sorted
    folder names over all splits: a label means the same class in each.

    Raises ValueError where the folder has no such layout, a class folder has no pictures or
    an inner folder, or a file is no picture.
    """
    size = DEFAULT_SIZE if size is None else size
    splits = _split_folders(folder)
    chosen = splits[find_split(split, list(splits), folder)]
    class_names = sorted({name for place in splits.values() for name in _visible_folders(place)})
    if not _visible_folders(chosen):
        found = "is empty" if not any(chosen.iterdir()) else "has no class folders"
        raise ValueError(f"{chosen} {found}; put the pictures of each class into a sub-folder named after it")
    paths: list[Path] = []
    labels: list[int] = []
    for name, place in _visible_folders(chosen).items():
        files = _picture_files(place)
        paths += files
        labels += [class_names.index(name)] * len(files)
    with _strict_about_bombs():
        for path in paths:
            _open(path, path, size).close()
    stamps = [(path.relative_to(chosen).as_posix(), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in paths]
    reader = functools.partial(_read_files, paths, size)
    return Pictures(torch.tensor(labels), class_names, reader, size, digest(stamps, class_names, size))


def _split_folders(folder: Path) -> dict[str, Path]:
    """Split name -> folder.  A class may be called "train" (a vehicle): a split holds folders."""
    known = {name for split in SPLITS for name in (split, *OTHER_SPLIT_NAMES[split])}
    inner = _visible_folders(folder)
    splits = {name: place for name, place in inner.items() if name in known}
    if splits and (len(splits) == len(inner) or any(_visible_folders(place) for place in splits.values())):
        return splits
    return {"train": folder}


def _visible_folders(folder: Path) -> dict[str, Path]:
    return {p.name: p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith((".", "__"))}


def _picture_files(folder: Path) -> list[Path]:
    """The files of one class folder, without what operating systems leave behind."""
    if inner := _visible_folders(folder):
        raise ValueError(f"{folder} holds the folder {next(iter(inner))!r}; name the folder whose sub-folders are the classes")
    files = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and p.name.lower() not in ("thumbs.db", "desktop.ini")]
    files = [p for p in files if p.is_file() or not p.exists()]  # a link that leads nowhere is kept, to be named by whoever opens it
    if not files:
        raise ValueError(f"{folder} has no pictures; add some or remove the folder")
    return files


def _read_files(paths: Sequence[Path], size: int, chosen: np.ndarray) -> Tensor:
    return _read_all([(paths[i], paths[i]) for i in chosen], size)


# Data sets of the hub -----------------------------------------------------------------------


def load_hub_pictures(name: str, split: str, size: int | None) -> Pictures:
    """A data set of the hub, or a local folder of parquet files, through the `datasets` library.

    No data set's own code is run.  FileNotFoundError where there is no such set or no network.
    """
    import datasets

    with _hub_errors(name):
        splits = datasets.get_dataset_split_names(name)
    found = find_split(split, splits, name)
    with _hub_errors(name):
        dataset = datasets.load_dataset(name, split=found)
    return find_dataset_pictures(dataset, name, size)


SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` of the datasets library writes: of several splits, of one


def load_saved_pictures(folder: Path, split: str, size: int | None) -> Pictures:
    """What `save_to_disk` of the `datasets` library has left in a folder; a set of one split is all training pictures."""
    import datasets

    with _hub_errors(str(folder)):
        saved = datasets.load_from_disk(str(folder))
    saved = saved if isinstance(saved, dict) else {"train": saved}
    return find_dataset_pictures(saved[find_split(split, list(saved), folder)], str(folder), size)


def require_on_hub(name: str) -> None:
    """One quick question whether the hub has this data set (`load_dataset` retries for half a minute)."""
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(name, timeout=10)
    except Exception as error:  # which HTTP library raises what depends on the version
        raise FileNotFoundError(f"the hub gave no data set {name!r} ({_one_line(error)})") from error


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:  # not there, no network, several configurations, a script
        raise FileNotFoundError(f"the datasets library cannot load {name!r} ({_one_line(error)})") from error


def find_dataset_pictures(dataset: Dataset, name: str, size: int | None) -> Pictures:
    """Pictures and labels of a loaded `datasets.Dataset`, found by the types of its columns.

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
    return Pictures(torch.tensor(labels, dtype=torch.int64), class_names, reader, size, digest(dataset._fingerprint, labels, size))


def _column(dataset: Dataset, kind: type, usual: Sequence[str], name: str) -> str:
    columns = [column for column, feature in dataset.features.items() if isinstance(feature, kind)]
    if not columns:
        found = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in dataset.features.items())
        raise ValueError(f"{name} has no column of type {kind.__name__}, only {found}; cast it to datasets.{kind.__name__}")
    named = [column for column in usual if column in columns]
    if not named and len(columns) > 1:
        warnings.warn(f"{name} has the {kind.__name__} columns {', '.join(columns)}; {columns[0]!r} is taken", stacklevel=4)
    return (named or columns)[0]


def _read_rows(dataset: Dataset, column: str, name: str, size: int, chosen: np.ndarray) -> Tensor:
    rows = dataset[chosen.tolist()][column] if len(chosen) else []
    for i, row in zip(chosen, rows):
        if row is None:
            raise ValueError(f"{name}: row {i} has no picture")
    sources = [row["path"] if row["bytes"] is None else io.BytesIO(row["bytes"]) for row in rows]
    return _read_all([(source, f"{name}, row {i},") for i, source in zip(chosen, sources)], size)


# One picture --------------------------------------------------------------------------------


def fit(image: Image, size: int) -> Image:
    """ADM's `center_crop_arr`: halve by box while twice too large, bicubic to the shorter side, crop the centre."""
    from PIL import Image as pillow

    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), pillow.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), pillow.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_images(pictures: np.ndarray) -> Tensor:
    """uint8 (N, H, W) or (N, H, W, 3) -> float32 (N, 3, H, W) in [-1, 1]; grey becomes three equal channels."""
    if pictures.ndim == 3:
        pictures = np.repeat(pictures[..., None], 3, axis=-1)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def _read_all(sources: Sequence[tuple[Path | str | BinaryIO, object]], size: int) -> Tensor:
    from PIL import ImageOps

    pictures = np.empty((len(sources), size, size, 3), dtype=np.uint8)
    with _strict_about_bombs():
        for row, (source, name) in zip(pictures, sources):
            opened = _open(source, name, size)
            try:
                with opened:
                    upright = _opaque(ImageOps.exif_transpose(opened))
            except (OSError, SyntaxError, ValueError, struct.error) as error:
                raise DamagedFileError(f"{name} is a damaged picture ({_one_line(error)}); restore or remove it") from error
            row[...] = np.asarray(fit(upright, size))
    return to_images(pictures)


def _opaque(image: Image) -> Image:
    """RGB; what is transparent shows white paper, as in a browser.  The colour hidden beneath it means nothing."""
    from PIL import Image as pillow

    if not image.has_transparency_data:
        return image.convert("RGB")
    return pillow.alpha_composite(pillow.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def _open(source: Path | str | BinaryIO, name: object, size: int) -> Image:
    """Read a picture's header; ValueError in one line where it is no picture or not one to be decoded."""
    from PIL import Image as pillow

    try:
        image = pillow.open(source, formats=FORMATS)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise ValueError(
            f"{name} is too large to decode safely ({_one_line(error)}); shrink it or raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise ValueError(f"{name} is no picture that can be read ({type(error).__name__}); remove or convert it") from error
    enlarged = max(image.size) / min(image.size) * size**2  # a strip of 1 x 10000 pixels grows to 2.5 million columns
    problem = None
    if image.mode.startswith(("I", "F")):
        problem = f"has mode {image.mode}, more than 8 bits per channel; save it as 8-bit grey or RGB"
    elif pillow.MAX_IMAGE_PIXELS and enlarged > pillow.MAX_IMAGE_PIXELS:
        problem = f"is {image.width}x{image.height}, too narrow to be cropped to {size}x{size}; remove it"
    if problem:
        image.close()
        raise ValueError(f"{name} {problem}")
    return image


@contextmanager
def _strict_about_bombs() -> Iterator[None]:
    """Pillow only warns between its limit and twice that; here both are errors."""
    from PIL import Image as pillow

    with warnings.catch_warnings():
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        yield


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
