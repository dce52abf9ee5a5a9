"""Each hole that papermill leaves open is closed: notebooks made to slip through do not."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.runner import NotebookFailure, run

pytestmark = pytest.mark.slow

PARAMETERS = "steps: int = 5  # how many\nname: str = 'x'  # of the run"


@pytest.fixture
def notebook(tmp_path):
    def write(*cells: str, kernel: str | None = "python3") -> Path:
        made = nbformat.v4.new_notebook()
        made.cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
        made.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
        if kernel:
            made.metadata["kernelspec"] = {"name": kernel, "display_name": "Python 3", "language": "python"}
        folder = tmp_path / "lessons"
        folder.mkdir()
        nbformat.write(made, folder / "lesson.ipynb")
        return folder / "lesson.ipynb"

    return write


def out(path: Path) -> Path:
    return path.parents[1] / "executed" / path.name


def test_a_good_notebook_runs_in_its_folder_on_this_python_with_the_given_values(notebook):
    path = notebook("import os, sys, difftuning\nprint(steps, name, os.getcwd(), sys.prefix)", "import ipywidgets\nipywidgets.IntSlider()")
    done = run(path, out(path), steps=7)
    assert done.cells[2].outputs[0].text.split() == ["7", "x", str(path.parent), sys.prefix]
    assert out(path).is_file()


@pytest.mark.parametrize(
    "parameters, message",
    [({"stpes": 3}, "has no parameter 'stpes', only steps, name"), ({"steps": "3"}, "'3' is of the wrong type")],
)
def test_a_misspelt_or_mistyped_parameter_fails_before_anything_runs(notebook, parameters, message):
    path = notebook("print(steps)")
    with pytest.raises(NotebookFailure, match=message):
        run(path, out(path), **parameters)
    assert not out(path).exists()


@pytest.mark.parametrize("kernel", ["my-venv", None])
def test_a_private_or_missing_kernel_name_fails(notebook, kernel):
    path = notebook("1 + 1", kernel=kernel)
    with pytest.raises(NotebookFailure, match="store 'python3'"):
        run(path, out(path))


@pytest.mark.parametrize(
    "cells, message",
    [
        (["1 / 0", "2"], "cell .* raised ZeroDivisionError"),
        (["import sys\nsys.exit(0)", "assert False"], "cell 1 raised SystemExit; cell 2 was not run"),
        (["raise SystemExit\nassert False"], "cell 1 raised SystemExit"),
        (["import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()"], "printed a traceback"),
        (["import os\nos._exit(1)"], "the kernel died"),
    ],
    ids=["exception", "exit midway", "exit in the last cell", "failing thread", "dead kernel"],
)
def test_a_cell_that_fails_loudly_or_silently_fails_the_run(notebook, cells, message):
    path = notebook(*cells)
    with pytest.raises(NotebookFailure, match=message):
        run(path, out(path))
    assert out(path).is_file(), "the executed copy tells what happened"


@pytest.mark.parametrize("way", ["interact(draw, k=(0, 3))", "display(interactive_output(draw, {'k': IntSlider(2, 0, 3)}))"])
def test_an_exception_inside_a_widget_is_found(notebook, way):
    path = notebook(f"from ipywidgets import *\ndef draw(k):\n    return [][k]\n{way};")
    with pytest.raises(NotebookFailure, match="a widget's callback raised IndexError"):
        run(path, out(path))


def test_the_time_limit_is_for_the_whole_run(notebook):
    path = notebook(*["import time\ntime.sleep(1.5)"] * 6)
    with pytest.raises(NotebookFailure, match="did not end within 4 s"):
        run(path, out(path), seconds=4)


def test_the_notebook_itself_is_never_overwritten(notebook):
    path = notebook("1")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="would overwrite"):
        run(path, path)
    assert path.read_bytes() == before
