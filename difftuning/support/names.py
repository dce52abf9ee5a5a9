"""Names and paths as people give them: `~`, one form of every accent, one order on every system."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Iterable


def one_form(name: str) -> str:
    """The name with accents composed (NFC): a Mac writes them decomposed, and both look alike."""
    return unicodedata.normalize("NFC", name)


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sorted by the code points of their names, whatever the file system, locale or letter case says."""
    return sorted(paths, key=lambda path: (one_form(path.name), path.name))


def user_path(given: str | os.PathLike) -> Path:
    """A path that a user gave: `~` is the home folder, and a folder is found whichever form its accents have on the disk."""
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"expected a name or a path, got {given!r}")
    path = Path(os.path.expanduser(os.fspath(given)))
    if os.fspath(path).isascii() or path.exists():
        return path
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        twins = (
            []
            if (found / part).exists() or not found.is_dir()
            else [name for name in os.listdir(found) if one_form(name) == one_form(part)]
        )
        found /= min(twins, default=part)
    return found


def cache_folder() -> Path:
    """`DIFFTUNING_CACHE`, else ~/.cache/difftuning."""
    return user_path(os.environ.get("DIFFTUNING_CACHE") or "~/.cache/difftuning")
