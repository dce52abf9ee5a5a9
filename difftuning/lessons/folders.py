"""Where lessons keep what they make, wherever they are started."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MARK = ".made-by-a-lesson"  # a file in every folder that a lesson may empty


def run_folder(name: str | Path) -> Path:
    """A folder inside the clone (papermill and Jupyter start in different places); without a clone, in the working directory.

    What it returns may be given to it again.
    """
    clone = Path(__file__).resolve().parents[2]
    path, here = Path(name).expanduser(), Path.cwd()
    inside = (clone / "notebooks").is_dir() and ".." not in path.parts  # with dots it is one of ours already, as seen from here
    found = (clone if inside else here) / path
    return Path(os.path.relpath(found)) if here.is_relative_to(clone) else found  # short, as lessons print it


def empty_folder(name: str | Path) -> Path:
    """A `run_folder` without what an earlier run of a lesson has left in it.

    FileExistsError for a folder that holds something else: nothing of the reader's is deleted.
    """
    folder = run_folder(name)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise FileExistsError(f"{folder} holds files that no lesson has made: name a new folder, or empty this one yourself")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    return folder
