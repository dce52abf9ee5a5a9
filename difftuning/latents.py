"""Every picture of a task encoded once, and kept for the next run."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .data import Task
from .files import DamagedFileError, load_tensors, require_space, save_tensors
from .progress import progress_bar

if TYPE_CHECKING:
    from .pretrained import Pretrained

SMALL_TASK = 2000  # pictures; below, encoding takes a second and nothing is written


def cache_folder() -> Path:
    """`DIFFTUNING_CACHE`, else ~/.cache/difftuning."""
    return Path(os.environ.get("DIFFTUNING_CACHE") or Path.home() / ".cache" / "difftuning")


def encode_latents(pretrained: Pretrained, task: Task, *, cache: str | os.PathLike | None = None,
                   batch_size: int = 64, progress: bool = True) -> dict[str, Tensor]:  # fmt: skip
    """Scaled latents of every picture: {"latents": (N, C, h, w)}, and "mirrored" where the task allows flips.

    "mirrored" encodes the horizontal mirror images (an autoencoder does not commute with
    mirroring).  The posterior's mean, where the published code draws from it.  Float32, on the CPU.  Tasks of `SMALL_TASK` pictures or more, and any task
    when `cache` names a folder, are kept in its latents/ under a digest of autoencoder and
    task; a damaged file there is rebuilt with a warning.

    Raises OSError, before anything is encoded, where the cache has no space or cannot be written.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if cache is None and len(task) < SMALL_TASK:
        return _encode(pretrained, task, batch_size, progress)
    key = hashlib.sha256(f"{pretrained.encoder_fingerprint} {pretrained.autoencoder.dtype} {task.fingerprint} {task.flip}".encode())
    path = (cache_folder() if cache is None else Path(cache)) / "latents" / f"{key.hexdigest()[:32]}.safetensors"
    if path.is_file():
        try:
            return _checked(load_tensors(path), path)
        except DamagedFileError as error:
            warnings.warn(f"{error}; the latents are encoded again", stacklevel=2)
    _require_writable(path.parent)
    latents = _encode(pretrained, task, batch_size, progress, folder=path.parent)
    save_tensors(path, {**latents, "checksum": _checksum(latents)})
    return latents


def _encode(pretrained: Pretrained, task: Task, batch_size: int, progress: bool, folder: Path | None = None) -> dict[str, Tensor]:
    """Encode batch by batch; the first batch tells how much space `folder` needs."""
    latents: dict[str, Tensor] = {}
    shown = progress and len(task) > SMALL_TASK
    for start in progress_bar(range(0, len(task), batch_size), f"encoding {task.name}", shown=shown):
        images = task.read(range(start, min(start + batch_size, len(task))))
        views = {"latents": images, "mirrored": images.flip(-1)} if task.flip else {"latents": images}
        for name, view in views.items():
            batch = pretrained.encode(view).float().cpu()
            if name not in latents:
                latents[name] = torch.empty(len(task), *batch.shape[1:])  # (N, C, h, w)
                if folder is not None and name == "latents":
                    require_space(folder, latents[name].nbytes * len(views))
            latents[name][start : start + len(batch)] = batch
    return latents


def _checked(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The latents of a cache file; DamagedFileError where they are not the bytes that were written."""
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{folder} cannot be made ({error.strerror}); set DIFFTUNING_CACHE to a folder of yours") from error
    if not os.access(folder, os.W_OK):
        raise OSError(f"{folder} cannot be written; set DIFFTUNING_CACHE to a folder of yours")
