"""Where lessons keep what they make, wherever they are started."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def run_folder(name: str) -> Path:
    """A folder inside the clone (papermill and Jupyter start in different places); without a clone, in the working directory."""
    clone = Path(__file__).resolve().parents[2]
    base = clone if (clone / "notebooks").is_dir() else Path.cwd()
    return Path(os.path.relpath(base / Path(name).expanduser()))  # short, as lessons print it


def empty_folder(name: str) -> Path:
    """A `run_folder` without what an earlier run has left in it."""
    folder = run_folder(name)
    shutil.rmtree(folder, ignore_errors=True)
    return folder
