"""Two small lessons as if they had been run: something of everything that a page must show, without a kernel."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from difftuning.lessons.exercises import NOT_WRITTEN
from difftuning.lessons.page_frames import EXPLORER, page_frames
from difftuning.lessons.predictions import PREDICTION

FIRST, SECOND = "00_shades", "01_more_shades"
START = {"t": 300, "colour": "red"}


class Shades:
    """Pictures of one colour each, large enough to be too wide for a phone."""

    def __init__(self, **axes: list):
        self.axes = axes

    def __call__(self, **values: Any) -> bytes:
        colour = [0, 0, 0]
        colour[["red", "blue"].index(values.get("colour", "red"))] = 50 + values["t"] // 5 + values.get("more", 0)
        file, text = io.BytesIO(), PngInfo()
        text.add_text("Description", f"A shade: {colour}.")
        Image.new("RGB", (800, 300), tuple(colour)).save(file, "PNG", pnginfo=text)
        return file.getvalue()


SHADES = Shades(t=[0, 100, 300, 600, 900], colour=["red", "blue"])
MANY = Shades(t=list(range(0, 1000, 100)), more=list(range(10)), colour=["red"])  # 100 settings


def write_lessons(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / f"{FIRST}.ipynb", _first()), _write(folder / f"{SECOND}.ipynb", _second())]


def _first() -> list[nbformat.NotebookNode]:
    return [
        new_markdown_cell("# Shades\n\n**Question.** How *dark* is $t$?\n\n[![Open in Colab](https://example.org/badge.svg)](https://example.org)"),
        new_code_cell("steps: int = 5  # of training", metadata={"tags": ["parameters"]}),
        new_code_cell("steps = 7", metadata={"tags": ["injected-parameters"]}),
        new_markdown_cell(
            "## Formulas and links\n\nIn $\\mathcal N(0, \\sigma^2)$ and\n\n$$\\mathcal L = \\underbrace{\\mathbb E\\,\\ell(x, t)}_{\\text{first}}"
            " + \\begin{cases} 1 & t > 0 \\\\ 0 & \\text{else} \\end{cases}" + " + \\lambda \\sum_i w_i x_i" * 6 + ".$$\n\n"
            f"See [the next lesson]({SECOND}.ipynb#More), [this one](#Explorers), [the readme](../README.md), [the data](../data).\n\n"
            "| a | b |\n|---|---|\n" + "| a rather wide table | " + "x" * 90 + " |"
        ),
        new_code_cell(
            "figure = draw(t=300)  # " + "a long line, " * 20 + '\nprint("done")\nfigure',
            outputs=[
                new_output("stream", name="stderr", text="a warning"),
                new_output("stream", text="done " * 60 + "\n"),
                new_output("execute_result", {"image/png": _png(), "text/plain": "Figure"}, metadata={"image/png": {"alt": "One shade."}}),
            ],
        ),
        new_markdown_cell("*Darker with every step of $t$.*\n\n## Explorers"),
        new_code_cell("explore(shades, t=300)", outputs=[_explorer(SHADES, START)], metadata={"tags": ["hide-input"]}),
        new_code_cell("explore(many)", outputs=[_explorer(MANY, {"t": 500, "more": 3, "colour": "red"})]),
    ]  # fmt: skip


def _second() -> list[nbformat.NotebookNode]:
    table = '<table border="1"><tr><th>score</th></tr><tr><td>0.5</td></tr></table>'
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "RadioButtons()"}
    asked = [
        {PREDICTION: {"question": question, "answers": ["darker", "as dark & no more"]}}
        for question in ("And <i>then</i>?", "And at last?")
    ]
    shade = new_output("display_data", {"image/png": _png()}, metadata={"image/png": {"alt": "One shade."}})
    remarks = ["*No caption* is a word in italics.", "*The first remark.* More about it.", "*The second\nremark.*\n\nAnd *more.*"]
    said = [new_output("display_data", {"text/markdown": remark, "text/plain": "a remark"}) for remark in remarks]
    return [
        new_markdown_cell("# More shades\n\nWhat is left?\n\n## More"),
        new_code_cell("own()", outputs=[new_output("execute_result", view)]),
        *[new_code_cell("ask()", outputs=[new_output("execute_result", view | each)]) for each in asked],
        new_code_cell("draw()", outputs=[shade, said[0], shade, said[1], shade, said[2]]),
        new_code_cell("answer()", outputs=[new_output("stream", text="Answer: darker.\n")]),
        new_markdown_cell("*What the text says (of $t$).*\n\n*And more of it.* Then it goes on.\n\n*This is no caption.*"),
        new_code_cell("grade('shade', mine)", outputs=[new_output("execute_result", {"text/plain": repr(NOT_WRITTEN)})]),
        new_code_cell("table", outputs=[new_output("execute_result", {"text/html": table, "text/plain": "score"})]),
        new_code_cell("assert table.score.max() < 1", metadata={"tags": ["checks"], "jupyter": {"source_hidden": True}}),
    ]


def _explorer(shades: Shades, start: dict[str, Any]) -> nbformat.NotebookNode:
    return new_output("execute_result", {EXPLORER: page_frames(shades, start), "text/plain": "Run the notebook"})


def _png() -> str:
    return base64.b64encode(SHADES(**START)).decode()


def _write(path: Path, cells: list[nbformat.NotebookNode]) -> Path:
    notebook = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}}
    nbformat.write(notebook, path)
    return path
