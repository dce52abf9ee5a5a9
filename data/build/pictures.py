"""Draw vector icons and letters as 32x32 greyscale pictures, bright on dark."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 32
FILLED = 26  # the longer side of what is drawn; the rest is margin
FINE = 4  # drawn this many times larger, then averaged


def draw_icon(icon: dict, *, colour: bool = False) -> np.ndarray | None:
    """An icon's body as uint8 (32, 32): its coverage, or the brightness of a coloured one. None if nothing shows."""
    import resvg_py

    side = FILLED * FINE
    body = icon["body"].replace("currentColor", "#fff")
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{side}" height="{side}" '
        f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {icon["width"]} {icon["height"]}">{body}</svg>'
    )
    picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    if colour:
        ground = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return _fit(Image.alpha_composite(ground, picture).convert("L"))
    return _fit(picture.getchannel("A"))


def draw_letter(font: ImageFont.FreeTypeFont, letter: str) -> np.ndarray | None:
    """A letter as uint8 (32, 32); None where the font draws nothing or its program for the letter is broken."""
    try:
        left, top, right, bottom = font.getbbox(letter)
    except OSError:
        return None
    if right <= left or bottom <= top or max(right - left, bottom - top) > 2000:
        return None
    canvas = Image.new("L", (right - left + 8, bottom - top + 8))
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), letter, font=font, fill=255)
    return _fit(canvas)


def pad(pictures: np.ndarray) -> np.ndarray:
    """28x28 pictures in the middle of 32x32 ones."""
    margin = (SIDE - pictures.shape[-1]) // 2
    return np.pad(pictures, ((0, 0), (margin, margin), (margin, margin)))


def enlarge(pictures: np.ndarray, side: int) -> np.ndarray:
    """Small pictures scaled to side x side pixels, in the middle of 32x32 ones."""
    scaled = [np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)) for picture in pictures]
    return pad(np.stack(scaled))


def font_letters(path: Path) -> set[int]:
    """Code points a font file can draw; empty where the file cannot be read."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return set(font.getBestCmap() or {})
    except (TTLibError, OSError, KeyError, AssertionError):
        return set()


def _fit(drawn: Image.Image) -> np.ndarray | None:
    """What is drawn, cropped, scaled so that its longer side is FILLED, centred."""
    box = drawn.point(lambda value: 255 if value > 24 else 0).getbbox()
    if box is None:
        return None
    drawn = drawn.crop(box)
    scale = min(FILLED / max(drawn.size), 1.6 / FINE if max(drawn.size) < FILLED * FINE else 1)
    size = tuple(max(1, round(side * scale)) for side in drawn.size)
    drawn = drawn.resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.LANCZOS, reducing_gap=None)
    picture = Image.new("L", (SIDE, SIDE))
    picture.paste(drawn, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    picture = np.asarray(picture)
    return picture if picture.std() > 12 else None
