"""Pictures on disk: a grid to look at, and the pixels in a file that `load_task` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from .files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

GRID_LIMIT = 256  # pictures in the PNG; the npz has them all


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
    return files


def write_pictures(out: str | Path, images: Tensor, labels: Sequence[int]) -> tuple[Path, Path]:
    """Images (N, 3, H, W) in [-1, 1] as OUT.png, a grid, and OUT.npz, which `load_task` reads."""
    import numpy as np
    from PIL import Image

    png, npz = picture_files(out)
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, 3)
    shown = pixels[:GRID_LIMIT]
    columns = min(len(shown), max(8, round(len(shown) ** 0.5)))
    height, width = pixels.shape[1] + 2, pixels.shape[2] + 2
    grid = np.full((-(-len(shown) // columns) * height + 2, columns * width + 2, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(shown):
        top, left = i // columns * height + 2, i % columns * width + 2
        grid[top : top + height - 2, left : left + width - 2] = picture
    with atomic_path(png) as scratch:
        Image.fromarray(grid).save(scratch)
    with atomic_path(npz) as scratch:
        np.savez_compressed(scratch, images=pixels, labels=np.asarray(labels, dtype=np.int64))
    return png, npz
