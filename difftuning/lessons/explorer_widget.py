"""The widget behind `explore`: controls above a picture, and what it shows where no widget can live."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import ipywidgets as widgets

from .page_frames import EXPLORER, Pictures, frames_are_asked_for, page_frames, value_label


class Explorer(widgets.VBox):
    """A control for each axis of `picture`, and the picture at the controls' values, `start` first."""

    def __init__(self, picture: Pictures, start: Mapping[str, Any]):
        self.picture, self.start = picture, dict(start)
        self.controls = {name: _control(name, values, start[name]) for name, values in picture.axes.items()}
        self.view = fitting_picture(picture(**start))
        self.view.add_class("difftuning-picture")
        for control in self.controls.values():
            control.observe(self._swap, names="value")
        super().__init__([*self.controls.values(), self.view])

    def _swap(self, change: dict) -> None:
        self.view.value = self.picture(**{name: control.value for name, control in self.controls.items()})

    def __repr__(self) -> str:
        """What stands in a notebook that is only read, as on GitHub."""
        axes = (f"{name.replace('_', ' ')} ({_range(values)})" for name, values in self.picture.axes.items())
        return f"Run the notebook to change: {', '.join(axes)}."

    def _repr_mimebundle_(self, **wanted: Any) -> dict[str, Any]:
        frames = {EXPLORER: page_frames(self.picture, self.start)} if frames_are_asked_for() else {}
        # not shortened to a line, as ipywidgets would
        return super()._repr_mimebundle_(**wanted) | {"text/plain": repr(self)} | frames


def fitting_picture(png: bytes) -> widgets.Image:
    """A picture that scales down with a narrow window (less its margins), never up, as boxes do, and never moves the controls above it."""
    layout = widgets.Layout(max_width="calc(100% - 4px)", object_fit="contain", align_self="flex-start")
    return widgets.Image(value=png, format="png", layout=layout)


def _control(name: str, values: Sequence, start: Any) -> widgets.Widget:
    """Numbers get a slider, words a row of buttons."""
    kind = widgets.ToggleButtons if isinstance(values[0], str) else widgets.SelectionSlider
    options = [(value_label(value), value) for value in values]
    layout = {"width": "auto" if kind is widgets.ToggleButtons else "min(560px, 98%)"}
    style = {"description_width": "9em"} | ({"button_width": "auto"} if kind is widgets.ToggleButtons else {})
    words = name.replace("_", " ")
    control = kind(description=words, tooltip=words, options=options, value=start, layout=layout, style=style)
    control.add_class("widget-inline-hbox")  # what a slider has already: the label to the left, at its right end
    return control


def _range(values: Sequence) -> str:
    if isinstance(values[0], str) or len(values) < 3:
        return ", ".join(map(value_label, values))
    return f"{value_label(values[0])} to {value_label(values[-1])}"
