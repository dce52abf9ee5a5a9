"""Pictures as numbers in [-1, 1], and on disk: a grid to look at, and the pixels in a file that `load_task` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from . import __version__
from .files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

RANGE_SLACK = 0.01  # rounding outside [-1, 1] that is no mistake
SIGNATURE = "sampled_by_difftuning"  # name of an array in the npz file and of a text in the PNG that this module wrote
GRID_LIMIT = 256  # pictures in the PNG; the npz has them all


def require_range(role: str, images: Tensor) -> None:
    """ValueError where images (N, 3, H, W) are not finite floats in [-1, 1], as 8-bit ones or 0..255 are not."""
    if not images.is_floating_point():
        raise ValueError(f"{role} must be float in [-1, 1], got {images.dtype}: divide 8-bit images by 127.5 and subtract 1")
    if not (finite := images.isfinite().flatten(1).all(1)).all():
        raise ValueError(f"{int((~finite).sum())} of {len(images)} {role} hold NaN or infinity: a model that drew such ones has diverged")
    low, high = (float(images.min()), float(images.max())) if len(images) else (0, 0)
    if low < -1 - RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise ValueError(f"{role} must lie in [-1, 1], got {low:.3g}..{high:.3g}: rescale or clamp them first")


def picture_files(out: str | Path) -> tuple[Path, Path]:
    """OUT.png and OUT.npz; OSError where they cannot be written, which is better known before the pictures are drawn."""
    out = Path(out)
    out = out.with_suffix("") if out.suffix in (".png", ".npz") else out
    if not out.name:
        raise ValueError(f"--out {str(out)!r} names no file; give a name such as samples")
    existing = next(folder for folder in out.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OSError(f"{out} cannot be written: {existing} is {'read-only' if existing.is_dir() else 'a file'}; choose another place")
    files = out.with_name(f"{out.name}.png"), out.with_name(f"{out.name}.npz")
    for file in files:
        if file.is_dir():
            raise FileExistsError(f"{file} is a folder; choose another name")
        if file.exists() and not _signed(file):  # a user's own set or picture of that name
            raise FileExistsError(f"{file} is there and does not say that difftuning sampled it; move it away or choose another name")
    return files


def _signed(file: Path) -> bool:
    """Whether this module wrote a file; a PNG says so near its beginning, an npz file near its end."""
    with open(file, "rb") as handle:
        first = handle.read(2**16)
        handle.seek(max(0, file.stat().st_size - 2**16))
        return SIGNATURE.encode() in first + handle.read()


def write_pictures(out: str | Path, images: Tensor, labels: Sequence[int]) -> tuple[Path, Path]:
    """Images (N, 3, H, W) in [-1, 1] as OUT.png, a grid, and OUT.npz, which `load_task` reads."""
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    png, npz = picture_files(out)
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, 3)
    shown = pixels[:GRID_LIMIT]
    columns = min(len(shown), max(8, round(len(shown) ** 0.5)))
    height, width = pixels.shape[1] + 2, pixels.shape[2] + 2
    grid = np.full((-(-len(shown) // columns) * height + 2, columns * width + 2, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(shown):
        top, left = i // columns * height + 2, i % columns * width + 2
        grid[top : top + height - 2, left : left + width - 2] = picture
    with atomic_path(png) as picture, atomic_path(npz) as arrays:  # both or none
        signed = PngInfo()
        signed.add_text(SIGNATURE, __version__)
        Image.fromarray(grid).save(picture, pnginfo=signed)
        np.savez_compressed(arrays, images=pixels, labels=np.asarray(labels, dtype=np.int64), **{SIGNATURE: __version__})
    return png, npz
