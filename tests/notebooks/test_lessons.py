"""Every lesson runs from a clean start at budget "minute", within its time."""

from __future__ import annotations

import pytest

from tests.notebooks.executed import ROOT

LESSONS = sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def test_there_are_lessons():
    assert LESSONS


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_in_its_time(path, executed_lessons):
    execution = executed_lessons.of(path)
    assert execution.notebook().is_file()
    assert not execution.left_behind, "a lesson leaves nothing beside the notebooks"
