"""Run lessons and keep their outputs in the committed notebooks, without traces of the execution.

python -m tests.notebooks.publish notebooks/00_quickstart.ipynb
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

from tests.notebooks.runner import run

TAGS = {"parameters", "checks", "hide-input"}  # papermill's, and what `make pages` collapses


def publish(path: Path) -> None:
    """Execute a notebook strictly and write its outputs back; tags stay, all other metadata of the run goes."""
    with tempfile.TemporaryDirectory() as folder:
        executed = run(path, Path(folder) / path.name, seconds=1800)
    executed.metadata = {"kernelspec": executed.metadata.kernelspec, "language_info": {"name": "python"}}
    for cell in executed.cells:
        cell.metadata = kept_metadata(cell.metadata.get("tags", []))
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = in_few_colours(output.data["image/png"])
                if output.output_type != "stream":  # of a picture, what a reader hears who cannot see it
                    output.metadata = {kind: {"alt": kept["alt"]} for kind, kept in output.metadata.items() if "alt" in kept}
    nbformat.write(executed, path)


def kept_metadata(tags: list[str]) -> dict[str, Any]:
    """The lessons' own tags; JupyterLab shows the code of `checks` when it is asked to."""
    tags = [tag for tag in tags if tag in TAGS]
    hidden = {"jupyter": {"source_hidden": True}} if "checks" in tags else {}
    return hidden | ({"tags": tags} if tags else {})


def in_few_colours(png: str) -> str:
    """A PNG (base64) with a palette of 256 colours, where that is smaller: a third of the bytes, and no difference to the eye."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        picture.convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    smaller = base64.b64encode(buffer.getvalue()).decode()
    return min(png, smaller, key=len)


if __name__ == "__main__":
    os.environ.setdefault("DIFFTUNING_PROGRESS", "off")
    for name in sys.argv[1:]:
        publish(Path(name))
