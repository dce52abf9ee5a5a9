"""Sliders over pictures: an explorer repeats, below a static figure, the same figure at other values.

    draw(t=500)                                      # a figure, visible wherever the notebook is read
    explore(precompute(draw, t=range(0, 1000, 50)))  # the same one on a slider

A slider must answer at once, so a step never draws a whole figure: it looks up a frame that was
drawn beforehand (`precompute`), or moves a few lines over a background that was (`Moving`).
"""

from __future__ import annotations

import io
from itertools import product
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, Sequence

import numpy as np

from ..progress import progress_bar
from .plots import Figure

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.artist import Artist

DPI = 90


class Frames:
    """PNG pictures for every combination of the axes' values; calling it looks one up."""

    def __init__(self, axes: Mapping[str, Sequence], images: Mapping[tuple, bytes], description: str = ""):
        self.axes = {name: list(values) for name, values in axes.items()}
        self.images = dict(images)
        self.description = description

    def __call__(self, **values: Any) -> bytes:
        return self.images[tuple(values[name] for name in self.axes)]


def precompute(draw: Callable[..., Figure], **axes: Iterable) -> Frames:
    """Draw every combination of the axes' values once; `draw` takes them by name and returns a Figure."""
    axes = {name: list(values) for name, values in axes.items()}
    combinations = list(product(*axes.values()))
    if not combinations:
        empty = next((name for name, values in axes.items() if not values), "the axes")
        raise ValueError(f"an explorer needs at least one value to show, and {empty} has none")
    images, figure = {}, None
    for values in progress_bar(combinations, "frames"):
        figure = draw(**dict(zip(axes, values)))
        images[values] = fixed_size_png(figure)
    return Frames(axes, images, figure.get_label())


class Moving:
    """A figure whose lines and texts move while everything else stands; calling it gives a PNG picture.

    `update(**values)` changes the artists in `moving`.  The rest is rasterised once, on the first
    call, so axes' limits and ticks must not depend on the values.
    """

    def __init__(self, figure: Figure, moving: Sequence[Artist], update: Callable[..., None], **axes: Iterable):
        self.axes = {name: list(values) for name, values in axes.items()}
        self.figure, self.moving, self.update = figure, list(moving), update
        self.description = figure.get_label()
        self._background = None

    def __call__(self, **values: Any) -> bytes:
        from PIL import Image

        canvas = self._canvas()
        canvas.restore_region(self._background)
        self.update(**values)
        for artist in self.moving:
            self.figure.draw_artist(artist)
        file = io.BytesIO()
        Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()).save(file, "PNG", compress_level=1)
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


def explore(picture: Frames | Moving, **start: Any) -> ipywidgets.VBox:
    """A control for each axis of `picture`, and the picture at the controls' values, `start` first.

    Numbers get a slider, words a row of buttons.  The control of axis `bank_share` is called
    "bank share".
    """
    import ipywidgets as widgets

    unknown = set(start) - set(picture.axes)
    if unknown:
        raise ValueError(f"no control is called {sorted(unknown)[0]!r}: this explorer has {', '.join(picture.axes)}")
    controls = {name: _control(name, values, start.get(name, values[0])) for name, values in picture.axes.items()}

    def current() -> bytes:
        return picture(**{name: control.value for name, control in controls.items()})

    # the frame scales down with a narrow window (less its margins), never up, as boxes do, and never moves the controls above it
    layout = widgets.Layout(max_width="calc(100% - 4px)", object_fit="contain", align_self="flex-start")
    view = widgets.Image(value=current(), format="png", layout=layout)
    view.add_class("difftuning-picture")

    def swap(change: dict) -> None:
        view.value = current()

    for control in controls.values():
        control.observe(swap, names="value")
    return widgets.VBox([*controls.values(), view])


def _control(name: str, values: Sequence, start: Any) -> ipywidgets.Widget:
    import ipywidgets as widgets

    if start not in values:
        raise ValueError(f"{name} cannot start at {start!r}: choose one of {', '.join(map(str, values))}")
    kind = widgets.ToggleButtons if isinstance(values[0], str) else widgets.SelectionSlider
    options = [(value if isinstance(value, str) else f"{value:g}", value) for value in values]
    layout = {"width": "auto" if kind is widgets.ToggleButtons else "min(560px, 98%)"}
    style = {"description_width": "9em"} | ({"button_width": "auto"} if kind is widgets.ToggleButtons else {})
    words = name.replace("_", " ")
    control = kind(description=words, tooltip=words, options=options, value=start, layout=layout, style=style)
    control.add_class("widget-inline-hbox")  # what a slider has already: the label to the left, at its right end
    return control


def fixed_size_png(figure: Figure) -> bytes:
    """The figure at its own size, so that frames of one explorer never jump; its description goes along."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Description": figure.get_label()})
    return file.getvalue()
