"""Drawings made of characters, and outlines to choose from: what lesson 08's ControlNets are asked to follow."""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor

from ...data.captions import name_pictures
from ...data.conditions import annotate
from ...data.tasks import load_source, load_task
from ...studies.control_cells import ControlCell

ROWS, COLUMNS = 16, 32  # characters are about twice as high as wide, and a picture has 32 x 32 pixels
SHADES = {".": 0.0, " ": 0.0, "+": 0.5, "#": 0.9}  # from black to white
SHOE = ControlCell.called
FOREIGN = ("T-shirt", "letter R", "umbrella")  # classes of the source: what no shoe's outline looks like


def picture_of(drawing: str) -> Tensor:
    """A drawing of `ROWS` lines of `COLUMNS` characters of `SHADES` as an image (1, 3, 32, 32) in [-1, 1]; short lines and missing ones are ground.

    Empty lines around it, as triple quotes leave them, do not count.  ValueError for too many lines, too long ones, and other characters.
    """
    lines = drawing.strip("\n").rstrip().split("\n")
    if len(lines) > ROWS or max(map(len, lines)) > COLUMNS:
        raise ValueError(f"a drawing has {ROWS} lines of {COLUMNS} characters at most, got {len(lines)} of up to {max(map(len, lines))}")
    if unknown := sorted(set("".join(lines)) - set(SHADES)):
        raise ValueError(f"a drawing is made of {' '.join(sorted(SHADES)).strip()} and spaces, got {unknown[0]!r}")
    grey = torch.zeros(ROWS, COLUMNS)
    for row, line in zip(grey, lines):
        row[: len(line)] = torch.tensor([SHADES[character] for character in line])
    return 2 * grey.repeat_interleave(COLUMNS // ROWS, 0).expand(1, 3, -1, -1) - 1


def outlines() -> Mapping[str, tuple[Tensor, str]]:
    """By name, the edges (1, 3, 32, 32) of a held-out picture and a prompt for it: a shoe of each class, and three things that are no shoes."""
    shoes, source = load_task("footwear", split="test"), load_source("heldout")
    named = [(shoes, name, SHOE) for name in shoes.class_names] + [(source, name, name) for name in FOREIGN]
    found = {}
    for task, name, called in named:
        image = task.read([int((task.labels == task.class_names.index(name)).nonzero()[0])])
        found[name] = annotate("edge", image), name_pictures(image, [called])[0]
    return found
