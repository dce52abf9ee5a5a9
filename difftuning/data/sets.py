"""What every source of a task gives: pictures that are read when asked for, their labels, and which split they are of."""

from __future__ import annotations

from typing import Callable, NamedTuple, Sequence

import numpy as np
from torch import Tensor

from ..support.files import sha256
from ..support.names import one_form

DEFAULT_SIZE = 256
SPLITS = ("train", "validation", "test")
OTHER_SPLIT_NAMES = {"train": ("training",), "validation": ("val", "valid", "dev"), "test": ("testing",)}


class Pictures(NamedTuple):
    """Labels (N,), what they mean, and how to read pictures: positions (n,) -> float32 (n, 3, size, size)."""

    labels: Tensor
    class_names: list[str]
    reader: Callable[[np.ndarray], Tensor]
    image_size: int
    fingerprint: str


def digest(*parts: object) -> str:
    """Sixteen hex digits that change when any part changes."""
    pieces = []
    for part in parts:
        data = np.ascontiguousarray(part).data.cast("B") if isinstance(part, np.ndarray) and part.size else repr(part).encode()
        pieces += [f"{len(data)}:", data]
    return sha256(*pieces)[:16]


def distinct_names(names: Sequence[str], where: object) -> list[str]:
    """Class names, accents in one form; ValueError where two are alike, as a name must say which class is meant."""
    found = [one_form(name) for name in names]
    for i, name in enumerate(found):
        if (first := found.index(name)) != i:
            raise ValueError(f"{where} has two classes named {name!r} (numbers {first} and {i}); rename one of them")
    return found


class NoSplitError(ValueError):
    """A set lacks the split that was asked for."""


def find_split(split: str, available: Sequence[str], where: object) -> str:
    """The name under which `where` keeps a split ("validation" may be "val"); ValueError lists what is there."""
    for name in (split, *OTHER_SPLIT_NAMES.get(split, ())):
        if name in available:
            return name
    only = f"the only split is {available[0]!r}" if len(available) == 1 else f"it has {', '.join(available)}"
    known = [name for name in SPLITS if {name, *OTHER_SPLIT_NAMES[name]} & set(available)]
    advice = f"; give split={known[0]!r}" if len(known) == 1 else "; give one of them as split=" if known else ""
    raise NoSplitError(f"{where} has no split {split!r}: {only}{advice}")
