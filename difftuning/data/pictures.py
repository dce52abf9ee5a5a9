"""Pictures as numbers in [-1, 1]: their range, read from files as ADM and DiT crop and resize them, and written for `load_task` to read.

Reading is strict: a file that is no picture, or not one to be decoded safely, is named in one line.
"""

from __future__ import annotations

import os
import struct
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..support.files import DamagedFileError, atomic_path, one_line
from ..support.names import user_path

if TYPE_CHECKING:
    from PIL.Image import Image

RANGE_SLACK = 0.01  # rounding outside [-1, 1] that is no mistake
SIGNATURE = "sampled_by_difftuning"  # name of an array in the npz file and of a text in the PNG that this module wrote
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no EPS or PDF: those run programs
SUFFIXES = (".bmp", ".gif", ".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")  # of such files, usually
ORIENTATION = 0x0112  # of EXIF: how the camera was held
GRID_LIMIT = 256  # pictures in the PNG; the npz has them all


def require_pictures(role: str, pictures: Tensor, size: int | None = None) -> None:
    """TypeError or ValueError where `pictures` are no tensor (N, 3, H, W), or not squares of `size` pixels where that is given."""
    if not isinstance(pictures, Tensor):
        raise TypeError(f"{role} must be a tensor (N, 3, H, W), got {type(pictures).__name__}: a task's are its .images")
    wanted = "(N, 3, H, W)" if size is None else f"(N, 3, {size}, {size})"
    if pictures.ndim != 4:
        advice = "a picture alone, (3, H, W), is given as picture[None]"
    elif pictures.shape[1] != 3:
        advice = "grey ones have three equal channels"
    elif size is not None and tuple(pictures.shape[2:]) != (size, size):
        advice = f"load them with size={size}, which crops and resizes"
    else:
        return
    raise ValueError(f"{role} must have shape {wanted}, got {tuple(pictures.shape)}; {advice}")


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
    out = user_path(out)
    out = out.with_suffix("") if out.suffix in (".png", ".npz") else out
    existing = next(folder for folder in out.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OSError(f"{out} cannot be written: {existing} is {'read-only' if existing.is_dir() else 'a file'}; choose another place")
    files = out.with_name(f"{out.name}.png"), out.with_name(f"{out.name}.npz")
    for file in files:
        if file.exists() and not (file.is_file() and _signed(file)):  # a user's own set or picture of that name
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
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    png, npz = picture_files(out)
    pixels = to_pixels(images).permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, 3)
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


def fit(image: Image, size: int) -> Image:
    """ADM's `center_crop_arr`: halve by box while twice too large, bicubic to the shorter side, crop the centre."""
    from PIL import Image as pillow

    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), pillow.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), pillow.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_pixels(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8 in the same shape; what lies outside is clamped."""
    return ((images.detach() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_images(pictures: np.ndarray) -> Tensor:
    """uint8 (N, H, W) or (N, H, W, 3) -> float32 (N, 3, H, W) in [-1, 1]; grey becomes three equal channels."""
    if pictures.ndim == 3:
        pictures = np.repeat(pictures[..., None], 3, axis=-1)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def read_pictures(sources: Sequence[tuple[Path | str | BinaryIO, object]], size: int) -> Tensor:
    """Files or streams, each with the name to call it by in errors, as float32 (N, 3, size, size) in [-1, 1]; DamagedFileError where one cannot be decoded."""
    pictures = np.empty((len(sources), size, size, 3), dtype=np.uint8)
    with strict_about_bombs():
        for row, (source, name) in zip(pictures, sources):
            opened = open_picture(source, name, size)
            try:
                with opened:
                    upright = _opaque(_upright(opened))
            except (OSError, SyntaxError, ValueError, struct.error) as error:
                raise DamagedFileError(f"{name} is a damaged picture ({one_line(error)}); restore or remove it") from error
            row[...] = np.asarray(fit(upright, size))
    return to_images(pictures)


def _upright(image: Image) -> Image:
    """The picture as the camera was held.  Pillow's own function also writes all of EXIF back, and fails where an entry is unusual."""
    from PIL import Image as pillow

    turns = pillow.Transpose
    methods = {2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM, 5: turns.TRANSPOSE, 6: turns.ROTATE_270,
               7: turns.TRANSVERSE, 8: turns.ROTATE_90}  # fmt: skip
    image.load()  # TIFF files are turned by this
    try:
        method = methods.get(image.getexif().get(ORIENTATION))
    except Exception:  # a broken block, in any of its parsers' ways: it says nothing, and the picture is whole
        method = None
    return image if method is None else image.transpose(method)


def _opaque(image: Image) -> Image:
    """RGB; what is transparent shows white paper, as in a browser.  The colour hidden beneath it means nothing."""
    from PIL import Image as pillow

    if not image.has_transparency_data:
        return image.convert("RGB")
    return pillow.alpha_composite(pillow.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def open_picture(source: Path | str | BinaryIO, name: object, size: int) -> Image:
    """Read a picture's header; ValueError in one line where it is no picture or not one to be decoded."""
    from PIL import Image as pillow

    try:
        image = pillow.open(source, formats=FORMATS)
    except (OSError, SyntaxError, ValueError, struct.error, pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"{name} is no picture that can be read safely ({reason}); remove, convert or shrink it") from error
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
def strict_about_bombs() -> Iterator[None]:
    """Pillow only warns between its limit and twice that; here both are errors.  What it says of odd EXIF is nobody's concern."""
    from PIL import Image as pillow

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        yield
