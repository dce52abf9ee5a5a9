"""What an explorer hands to a page, where no kernel draws: its frames, as one output of the notebook.

`make pages` runs the lessons with DIFFTUNING_FRAMES=on and finds them there.  At other times the output stays
small: JupyterLab has the kernel, and a notebook with every frame in it would be too large to keep.
"""

from __future__ import annotations

import base64
import io
import os
from itertools import groupby, product
from typing import Any, Iterable, Mapping, Protocol, Sequence

EXPLORER = "application/vnd.difftuning.explorer+json"
MOST_FRAMES = 64  # of one explorer: some 40 kB each, and a page of 12 MB has several


class Pictures(Protocol):
    """What can be explored: values of its axes, by name, give a PNG picture."""

    axes: dict[str, list]

    def __call__(self, **values: Any) -> bytes: ...


def frames_are_asked_for() -> bool:
    """Whether a page is being made that moves without a kernel (`make pages`)."""
    return os.environ.get("DIFFTUNING_FRAMES") == "on"


def page_frames(picture: Pictures, start: Mapping[str, Any]) -> dict[str, Any]:
    """Controls and pictures as JSON.  A setting is written as the places of its values, such as "0,3"."""
    settings = settings_near(picture.axes, start)
    controls = [
        {
            "name": name.replace("_", " "),
            "values": [value_label(value) for value in values],
            "start": values.index(start[name]),
            "slides": not isinstance(values[0], str),
        }
        for name, values in picture.axes.items()
    ]
    places: dict[bytes, int] = {}  # of each picture, stored once
    frames = {}
    for setting in settings:
        png = picture(**dict(zip(picture.axes, setting)))
        frames[_key(picture.axes, setting)] = places.setdefault(png, len(places))
    return {
        "controls": controls,
        "frames": frames,
        "pictures": [base64.b64encode(png).decode() for png in places],
        "descriptions": [description_of(png) for png in places],
    }


def settings_near(axes: Mapping[str, Sequence], start: Mapping[str, Any]) -> list[tuple]:
    """All settings where they are few; otherwise those in which only so many controls have left their start."""

    def moved(setting: Iterable) -> int:
        return sum(value != start[name] for name, value in zip(axes, setting))

    kept: list[tuple] = []
    for count, layer in groupby(sorted(product(*axes.values()), key=moved), key=moved):
        layer = list(layer)
        if count > 1 and len(kept) + len(layer) > MOST_FRAMES:  # each control alone can always be moved
            break
        kept += layer
    return kept


def value_label(value: Any) -> str:
    """A control's value as it is written beside its slider."""
    return value if isinstance(value, str) else f"{value:g}"


def description_of(png: bytes) -> str:
    """What `fixed_size_png` wrote into the file for readers who cannot see it."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return image.info.get("Description", "")


def _key(axes: Mapping[str, Sequence], setting: Iterable) -> str:
    return ",".join(str(list(values).index(value)) for values, value in zip(axes.values(), setting))
