"""The static twin of an explorer: some of its settings side by side, visible wherever the notebook is read."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Sequence

from .explorers import DPI, starting_setting
from .figures import Figure, describe
from .page_frames import Pictures, description_of, value_label

if TYPE_CHECKING:
    from PIL.Image import Image

    from .explorer_widget import Explorer

SETTINGS = 5
WIDEST = 1500  # pixels of the whole strip: readable in a notebook at full width
SHAPE = 1.5  # width to height that the strip comes near to


class Strip(Figure):
    """A figure that shows itself in 256 colours: a third of the bytes, for a notebook keeps many frames in it."""

    def _repr_png_(self) -> bytes:
        from PIL.PngImagePlugin import PngInfo

        text, file = PngInfo(), io.BytesIO()
        text.add_itxt("Description", self.get_label())
        _open(super()._repr_png_()).convert("RGB").quantize(256, dither=0).save(file, "PNG", optimize=True, pnginfo=text)
        return file.getvalue()


def filmstrip(explorer: Explorer | Pictures, **settings: Any) -> Figure:
    """Draw several values of one control, the others held: `filmstrip(explorer, t=[0, 100, 300, 600, 900])`.

    A control that is not named stays at the explorer's start.  Without a list of values the first
    control takes five, spread evenly.
    """
    picture, start = getattr(explorer, "picture", explorer), getattr(explorer, "start", {})
    lists = [name for name, value in settings.items() if isinstance(value, (list, tuple, range))]
    free = lists or [name for name in picture.axes if name not in settings]
    if len(lists) > 1 or not free:
        raise ValueError(
            f"a filmstrip needs a list of values for one of {', '.join(picture.axes)}, not for {' and '.join(lists) or 'none'}"
        )
    varied = free[0]
    values = list(settings.get(varied) or _spread(picture.axes[varied]))
    held = start | {name: value for name, value in settings.items() if name != varied}
    shown = [picture(**starting_setting(picture.axes, held | {varied: value})) for value in values]
    words = varied.replace("_", " ")
    figure = _strip([_open(png) for png in shown], [f"{words} = {value_label(value)}" for value in values])
    first, last = description_of(shown[0]), description_of(shown[-1])
    return describe(
        figure,
        f"One figure at {len(values)} values of {words}: {', '.join(map(value_label, values))}. At the first: {first} At the last: {last}",
    )


def _strip(images: Sequence[Image], titles: Sequence[str]) -> Figure:
    """The pictures in rows, each below its title, and no larger than they are."""
    from PIL.Image import Resampling

    width, height = images[0].size
    columns = min(range(1, len(images) + 1), key=lambda n: abs(math.log(n * width / (math.ceil(len(images) / n) * height * SHAPE))))
    rows = math.ceil(len(images) / columns)
    scale = min(1.0, WIDEST / (columns * width))
    width, height = round(scale * width), round(scale * height)
    size = max(11.0, columns * width / 90)  # of the titles, which shrink with a wide strip on a narrow page
    head = round(2.2 * size * DPI / 72)
    figure = Strip(figsize=(columns * width / DPI, rows * (height + head) / DPI), dpi=DPI)
    for place, (image, title) in enumerate(zip(images, titles)):
        row, column = divmod(place, columns)
        axis = figure.add_axes((column / columns, 1 - (row + 1) / rows, 1 / columns, height / (height + head) / rows))
        axis.imshow(image.convert("RGB").resize((width, height), Resampling.LANCZOS), aspect="auto", interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(title, fontsize=size, pad=4)
    return figure


def _spread(values: Sequence) -> list:
    count = min(SETTINGS, len(values))
    return [values[round(place * (len(values) - 1) / max(1, count - 1))] for place in range(count)]


def _open(png: bytes) -> Image:
    from PIL import Image

    return Image.open(io.BytesIO(png))
