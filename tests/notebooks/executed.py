"""Lessons executed once in a session, as `make pages` does it, for every test that looks at the result."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.notebooks.runner import run

ROOT = Path(__file__).resolve().parents[2]
SECONDS = {"00_quickstart.ipynb": 60}
USUAL_SECONDS = 90
SOLUTION_SECONDS = 60
# on a machine that is slow or busy: DIFFTUNING_TIME_FACTOR=3 gives three times as long
FACTOR = float(os.environ.get("DIFFTUNING_TIME_FACTOR", 1))
PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))  # that share the cores


@dataclass(frozen=True)
class Execution:
    """What became of a lesson: its executed copy, and what went wrong, if anything did."""

    copy: Path
    failure: Exception | None
    left_behind: set[Path]  # new files beside the notebooks

    def notebook(self) -> Path:
        """The executed copy, whose explorers hold their frames; raises what stopped the run."""
        if self.failure:
            raise self.failure
        return self.copy


class ExecutedLessons:
    """From a lesson's file to its execution; the first who asks for one waits for it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.of = cache(self._execute)

    def _execute(self, path: Path) -> Execution:
        import papermill

        place = self.folder / path.relative_to(ROOT).with_suffix("")
        parameters = {"budget": "minute"}
        if "folder" in papermill.inspect_notebook(str(path)):
            parameters["folder"] = str(place / "results")  # nothing of an earlier run is found there
        limit = FACTOR * PROCESSES * (SOLUTION_SECONDS if path.parent.name == "solutions" else SECONDS.get(path.name, USUAL_SECONDS))
        before, begun, failure = _files(path.parent), time.perf_counter(), None
        # in a thread of its own, for Playwright may have an event loop in this one
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as thread:
            patch.setenv("DIFFTUNING_PROGRESS", "off")
            patch.setenv("DIFFTUNING_CACHE", str(place / "cache"))
            patch.setenv("DIFFTUNING_FRAMES", "on")
            try:
                thread.submit(run, path, place / path.name, seconds=limit, **parameters).result()
            except Exception as error:
                failure = error
        print(f"{path.stem}: {time.perf_counter() - begun:.0f} s of {limit:.0f}")
        kept = ROOT / "runs" / path.relative_to(ROOT)  # of a failed run, too: CI keeps it
        kept.parent.mkdir(parents=True, exist_ok=True)
        if (place / path.name).is_file():
            shutil.copy(place / path.name, kept)
        return Execution(place / path.name, failure, _files(path.parent) - before)


def _files(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file() and not {".ipynb_checkpoints", "__pycache__"} & set(p.parts)}
