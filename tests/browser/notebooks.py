"""Notebooks for the browser: copies of the lessons without outputs, and small ones made up for a test."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat

LESSONS = Path(__file__).resolve().parents[2] / "notebooks"
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
EXPLORER = """
from matplotlib.figure import Figure
from difftuning.lessons.explorers import explore, precompute

def draw(power, law):
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1), xlabel="noise", ylabel="weight")
    x = [i / 50 for i in range(51)]
    axes.plot(x, [k**power if law == "rising" else 1 - k**power for k in x])
    return figure
"""


def lessons() -> list[Path]:
    return sorted(LESSONS.glob("[0-9][0-9]_*.ipynb"))


def explorer_cells(path: Path) -> int:
    return _cells_with(path, r"\bexplore\(")


def prediction_cells(path: Path) -> int:
    return _cells_with(path, r"(?<![\w.])(lesson\.)?predict\(")  # a model predicts, too


def _cells_with(path: Path, call: str) -> int:
    cells = nbformat.read(path, as_version=4).cells
    return sum(cell.cell_type == "code" and re.search(call, cell.source) is not None for cell in cells)


def copy_lesson(path: Path, folder: Path) -> None:
    """The notebook alone, its outputs cleared, with the pictures that its text shows."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / path.name)
    if (path.parent / "images").is_dir():
        shutil.copytree(path.parent / "images", folder / "images")


def write_notebook(path: Path, *cells: str) -> None:
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
