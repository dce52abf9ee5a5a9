"""One progress bar for all long work: plain text, so that notebooks keep no widget debris."""

from __future__ import annotations

import os
from typing import Iterable, TypeVar

Item = TypeVar("Item")


LONG = 3.0  # seconds of work that need no bar


def progress_bar(items: Iterable[Item] | None, description: str, *, shown: bool = True, initial: int = 0, total: int | None = None,
                 delay: float = 0):  # fmt: skip
    """A tqdm bar over `items` (None: updated by hand); silent where `shown` is False or DIFFTUNING_PROGRESS is "off".

    Work that ends within `delay` seconds shows none.
    """
    from tqdm import tqdm

    silent = not shown or os.environ.get("DIFFTUNING_PROGRESS") == "off"
    return tqdm(
        items, desc=description, initial=initial, total=total, disable=silent, delay=delay, mininterval=1.0, dynamic_ncols=True
    )  # fmt: skip
