"""Every lesson runs from a clean start at budget "minute", within its time."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import papermill
import pytest

from tests.notebooks.runner import run

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
SECONDS = {"00_quickstart.ipynb": 60}
USUAL_SECONDS = 90
# on a machine that is slow or busy: DIFFTUNING_TIME_FACTOR=3 gives three times as long
FACTOR = float(os.environ.get("DIFFTUNING_TIME_FACTOR", 1))


def test_there_are_lessons():
    assert LESSONS


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_in_its_time(path, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFTUNING_PROGRESS", "off")
    monkeypatch.setenv("DIFFTUNING_CACHE", str(tmp_path / "cache"))
    parameters = {"budget": "minute"}
    if "folder" in papermill.inspect_notebook(str(path)):
        parameters["folder"] = str(tmp_path / "results")  # nothing of an earlier run is found there
    kept = ROOT / "runs" / path.relative_to(ROOT)  # of a failed run, too: CI keeps it
    before = _files(path.parent)
    limit = FACTOR * SECONDS.get(path.name, USUAL_SECONDS)
    begun = time.perf_counter()
    try:
        run(path, tmp_path / path.name, seconds=limit, **parameters)
    finally:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if (tmp_path / path.name).is_file():
            shutil.copy(tmp_path / path.name, kept)
    print(f"{path.stem}: {time.perf_counter() - begun:.0f} s of {limit:.0f}")
    assert _files(path.parent) == before, "a lesson leaves nothing beside the notebooks"


def _files(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file() and not {".ipynb_checkpoints", "__pycache__"} & set(p.parts)}
