"""One progress bar for all long work: plain text, so that notebooks keep no widget debris."""

from __future__ import annotations

import os
from typing import Iterable, TypeVar

Item = TypeVar("Item")


def progress_bar(items: Iterable[Item] | None, description: str, *, shown: bool = True, initial: int = 0, total: int | None = None):
    """A tqdm bar over `items` (None: updated by hand); silent where `shown` is False or DIFFTUNING_PROGRESS is "off"."""
    from tqdm import tqdm

    silent = not shown or os.environ.get("DIFFTUNING_PROGRESS") == "off"
    return tqdm(items, desc=description, initial=initial, total=total, disable=silent, mininterval=1.0, dynamic_ncols=True)
