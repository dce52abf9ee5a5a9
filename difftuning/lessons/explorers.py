"""Sliders over pictures: an explorer repeats, below a static figure, the same figure at other values.

    draw(t=500)                                      # a figure, visible wherever the notebook is read
    explore(precompute(draw, t=range(0, 1000, 50)))  # the same one on a slider

A slider must answer at once, so a step never draws a whole figure: it looks up a frame that was
drawn beforehand (`precompute`), or moves a few lines over a background that was (`Moving`).
On the pages that `make pages` writes the same frames move without a kernel (page_frames.py).
"""

from __future__ import annotations

import io
from itertools import product
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, Sequence

import numpy as np

from ..support.options import require_choice
from ..support.progress import progress_bar
from .figures import Figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist

    from .explorer_widget import Explorer
    from .page_frames import Pictures

DPI = 90


class Frames:
    """PNG pictures for every combination of the axes' values; calling it looks one up."""

    def __init__(self, axes: Mapping[str, Sequence], images: Mapping[tuple, bytes]):
        self.axes = {name: list(values) for name, values in axes.items()}
        self.images = dict(images)

    def __call__(self, **values: Any) -> bytes:
        return self.images[tuple(values[name] for name in self.axes)]


def precompute(draw: Callable[..., Figure], **axes: Iterable) -> Frames:
    """Draw every combination of the axes' values once; `draw` takes them by name and returns a Figure."""
    axes = {name: list(values) for name, values in axes.items()}
    combinations = list(product(*axes.values()))
    if not combinations:
        empty = next((name for name, values in axes.items() if not values), "the axes")
        raise ValueError(f"an explorer needs at least one value to show, and {empty} has none")
    return Frames(axes, {values: fixed_size_png(draw(**dict(zip(axes, values)))) for values in progress_bar(combinations, "frames")})


class Moving:
    """A figure whose lines and texts move while everything else stands; calling it gives a PNG picture.

    `update(**values)` changes the artists in `moving`.  The rest is rasterised once, on the first
    call, so axes' limits and ticks must not depend on the values.
    """

    def __init__(self, figure: Figure, moving: Sequence[Artist], update: Callable[..., None], **axes: Iterable):
        self.axes = {name: list(values) for name, values in axes.items()}
        self.figure, self.moving, self.update = figure, list(moving), update
        self._background = None

    def __call__(self, **values: Any) -> bytes:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        canvas = self._canvas()
        canvas.restore_region(self._background)
        self.update(**values)
        for artist in self.moving:
            self.figure.draw_artist(artist)
        file, text = io.BytesIO(), PngInfo()
        text.add_itxt("Description", self.figure.get_label())  # `update` may have changed it
        Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()).save(file, "PNG", compress_level=1, pnginfo=text)
        return file.getvalue()

    def _canvas(self) -> Any:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        if self._background is None:
            self.figure.set_dpi(DPI)
            canvas = FigureCanvasAgg(self.figure)
            canvas.draw()  # once with everything, so that the layout leaves room for what moves
            self.figure.set_layout_engine("none")
            for artist in self.moving:
                artist.set_animated(True)
            canvas.draw()
            self._background = canvas.copy_from_bbox(self.figure.bbox)
        return self.figure.canvas


def explore(picture: Pictures, **start: Any) -> Explorer:
    """A control for each axis of `picture`, and the picture at the controls' values, `start` first.

    Numbers get a slider, words a row of buttons.  The control of axis `bank_share` is called
    "bank share".
    """
    from .explorer_widget import Explorer

    return Explorer(picture, starting_setting(picture.axes, start))


def starting_setting(axes: Mapping[str, Sequence], start: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every axis, its first one where `start` names none."""
    for name, value in start.items():
        require_choice("control", name, axes)
        require_choice(name, value, axes[name])
    return {name: start.get(name, values[0]) for name, values in axes.items()}


def fixed_size_png(figure: Figure) -> bytes:
    """The figure at its own size, so that frames of one explorer never jump; its description goes along."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Description": figure.get_label()})
    return file.getvalue()
