"""What is worked out once of every picture of a task (its latent, its condition picture), and kept for the next run."""

from __future__ import annotations

import hashlib
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor

from ..support.files import DamagedFileError, load_tensors, require_space, save_tensors, sha256
from ..support.names import cache_folder, user_path
from ..support.progress import progress_bar
from ..support.settings import COUNT, require_within
from .tasks import Task

SMALL_TASK = 2000  # pictures; below, quick work takes a second and nothing is written


def made_once(task: Task, work: Callable[[Tensor], Tensor], *, name: str, key: str, doing: str, cache: str | os.PathLike | None,
               batch_size: int, progress: bool, slow: bool = False) -> dict[str, Tensor]:  # fmt: skip
    """`work` of every picture of a task: {name: (N, ...)}, and of its mirror image as "mirrored" where the task allows flips.

    `work` takes images (n, 3, H, W) in [-1, 1] and gives a tensor (n, ...).  Of tasks of
    `SMALL_TASK` pictures or more, of any task when `cache` names a folder or the work is
    `slow`, the result is kept in the cache's folder `name` under a digest of `key`, which says
    what decides the work, and of the task.  A damaged file there is made again with a warning.

    Raises OSError, before any work, where the cache has no space or cannot be written.
    """
    require_within("batch_size", batch_size, COUNT)
    bar = f"{doing} {task.name}" if progress and (slow or len(task) > SMALL_TASK) else None
    if cache is None and len(task) < SMALL_TASK and not slow:
        return _make(task, work, name, batch_size, bar)
    digest = sha256(f"{key} {task.fingerprint} {task.flip}")
    path = (cache_folder() if cache is None else user_path(cache)) / name / f"{digest[:32]}.safetensors"
    if path.is_file():
        try:
            return _checked(load_tensors(path), path)
        except DamagedFileError as error:
            warnings.warn(f"{error}; the {name} are made again", stacklevel=3)
    _require_writable(path.parent)
    tensors = _make(task, work, name, batch_size, bar, folder=path.parent)
    save_tensors(path, {**tensors, "checksum": _checksum(tensors)})
    return tensors


def _make(task: Task, work: Callable[[Tensor], Tensor], name: str, batch_size: int, bar: str | None,
              folder: Path | None = None) -> dict[str, Tensor]:  # fmt: skip
    """Batch by batch; the first batch tells how much space `folder` needs."""
    tensors: dict[str, Tensor] = {}
    for start in progress_bar(range(0, len(task), batch_size), bar or "", shown=bar is not None):
        images = task.read(range(start, min(start + batch_size, len(task))))
        views = {name: images, "mirrored": images.flip(-1)} if task.flip else {name: images}
        for view, pictures in views.items():
            batch = work(pictures).cpu()
            if view not in tensors:
                tensors[view] = torch.empty(len(task), *batch.shape[1:], dtype=batch.dtype)
                if folder is not None and view == name:
                    require_space(folder, tensors[view].nbytes * len(views))
            tensors[view][start : start + len(batch)] = batch
    return tensors


def _checked(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of a cache file; DamagedFileError where they are not the bytes that were written."""
    checksum = tensors.pop("checksum", None)
    if checksum is None or not torch.equal(checksum, _checksum(tensors)):
        raise DamagedFileError(f"{path} does not match its checksum")
    return tensors


def _checksum(tensors: dict[str, Tensor]) -> Tensor:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)


def _require_writable(folder: Path) -> None:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(f"{folder} cannot be written; set DIFFTUNING_CACHE to a folder of yours")
