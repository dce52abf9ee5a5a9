"""An executed notebook as a page can show it: explorers with their frames, predictions with their answers, a word in place of what only a kernel can do."""

from __future__ import annotations

import base64
import copy
import io
from math import prod
from typing import Any

from nbformat import NotebookNode
from PIL import Image

from difftuning.lessons.page_frames import EXPLORER
from difftuning.lessons.predictions import PREDICTION

WIDGET = "application/vnd.jupyter.widget-view+json"
UNWRITTEN = "✗ not written yet"  # an exercise as it is handed out
NOTE = "application/vnd.difftuning.note+json"  # between this file and the template


def prepare(notebook: NotebookNode) -> NotebookNode:
    """A copy without what papermill added and with outputs that need no kernel."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip() and "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_still(output) for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def _still(output: NotebookNode) -> NotebookNode:
    data = output.get("data", {})
    if EXPLORER in data:
        output.data = NotebookNode({EXPLORER: with_small_pictures(data[EXPLORER])})
    elif PREDICTION in data:
        output.data = NotebookNode({PREDICTION: data[PREDICTION]})
    elif WIDGET in data:
        output.data = NotebookNode({NOTE: "widget"})
    elif data.get("text/plain", "").startswith(UNWRITTEN):
        output.data = NotebookNode({NOTE: "exercise"})
    return output


def with_small_pictures(explorer: dict[str, Any]) -> dict[str, Any]:
    """The frames as addresses that hold their own data, with the size that the page keeps free for them."""
    pngs = [base64.b64decode(text) for text in explorer["pictures"]]
    width, height = Image.open(io.BytesIO(pngs[0])).size
    complete = len(explorer["frames"]) == prod(len(control["values"]) for control in explorer["controls"])
    return {**explorer, "pictures": [data_address(png) for png in pngs], "width": width, "height": height, "complete": complete}


def data_address(png: bytes) -> str:
    """Lossless WebP shows the same pixels in less than half of the bytes, where it is smaller at all."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).save(file, "WEBP", lossless=True, method=4)
    kind, data = min(("png", png), ("webp", file.getvalue()), key=lambda pair: len(pair[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
