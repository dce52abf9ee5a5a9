"""A canvas of 32 x 32 pixels: the reader draws in the browser, and the kernel has the picture.

canvas = Canvas(picture_of(drawing), fill)      # a cell's last line: `canvas`
canvas.picture                                  # what stands there now, for any cell below
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets
from torch import Tensor

from ...data.pictures import require_pictures, require_range, to_images
from ..explorer_widget import fitting_picture
from ..explorers import fixed_size_png
from ..figures import Figure
from .drawing import COLUMNS, SHADES

SIDE = COLUMNS
BRUSHES = {"bright": SHADES["#"], "half": SHADES["+"], "black": SHADES["."]}


class Surface(anywidget.AnyWidget):
    """What is drawn on.  `pixels` comes from a browser: TraitError for any other number of them, and for one that is no grey value."""

    _esm, _css = (Path(__file__).with_name(f"canvas.{kind}") for kind in ("js", "css"))
    pixels = traitlets.List(traitlets.Int(min=0, max=255), minlen=SIDE**2, maxlen=SIDE**2).tag(sync=True)  # row by row, 0 is black
    brushes = traitlets.Dict({name: round(255 * shade) for name, shade in BRUSHES.items()}).tag(sync=True)


class Canvas(widgets.VBox):
    """The surface, on which `start` (1, 3, 32, 32) in [-1, 1] stands in grey, and a button that shows the figure `fill(picture)` below it.

    TypeError or ValueError where `start` is no such picture.
    """

    def __init__(self, start: Tensor, fill: Callable[[Tensor], Figure]):
        require_pictures("the canvas' start", start, SIDE)
        require_range("the canvas' start", start)
        if len(start) != 1:
            raise ValueError(f"a canvas starts with one picture, got {len(start)}: give it pictures[:1]")
        grey = (start[0].mean(0).clamp(-1, 1) + 1) * 127.5
        self.surface = Surface(pixels=grey.round().int().flatten().tolist())
        self.fill = fill
        self.button = widgets.Button(description="Fill", tooltip="find the edges of the drawing and fill them")
        self.button.on_click(self._show)
        super().__init__([self.surface, self.button])

    @property
    def picture(self) -> Tensor:
        """What is drawn now, as an image (1, 3, 32, 32) in [-1, 1]."""
        return to_images(np.array(self.surface.pixels, dtype=np.uint8).reshape(1, SIDE, SIDE))

    def _show(self, button: widgets.Button) -> None:
        button.disabled, button.description = True, "Filling ..."
        try:
            self.children = [self.surface, self.button, fitting_picture(fixed_size_png(self.fill(self.picture)))]
        finally:
            button.disabled, button.description = False, "Fill"

    def __repr__(self) -> str:
        """What stands in a notebook that is only read."""
        return f"Run the notebook to draw here, on {SIDE} x {SIDE} pixels, with mouse, pen, finger or keys."

    def _repr_mimebundle_(self, **wanted: Any) -> dict[str, Any]:
        return super()._repr_mimebundle_(**wanted) | {"text/plain": repr(self)}  # not shortened to a line, as ipywidgets would
