"""Committed notebooks are fit to be read, run and compared anywhere; each rule is tried on a notebook that breaks it."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path
from typing import Iterator

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
LONGEST_CELL = 25
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)[^)]*\)|<(?:img|a)\b[^>]*(?:src|href)=\"([^\"]+)\"")
NOISE = {
    "an absolute path": re.compile(r"(?<![\w:/.])/(?:home|root|Users|tmp|work|content|opt|usr|var|mnt)/|[A-Z]:\\\\?\w"),
    "a memory address": re.compile(r" at 0x[0-9a-f]{6,}"),
    "a progress bar": re.compile(r"\d+%\|"),
}
COLLAPSED = {"source_hidden": True}
EXECUTION_METADATA = {"execution", "papermill", "ExecuteTime", "collapsed", "scrolled", "jupyter", "colab", "vscode", "trusted"}


def problems(notebook: nbformat.NotebookNode, folder: Path) -> Iterator[str]:
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not python3"
    foreign = set(notebook.metadata) - {"kernelspec", "language_info"}
    if foreign:
        yield f"metadata holds {sorted(foreign)}"
    if set(notebook.metadata.get("language_info", {})) - {"name"}:
        yield "language_info changes with the machine: keep its name only"
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged parameters"
    for cell in tagged:
        yield from _parameter_problems(cell.source)
    if sum("checks" in cell.metadata.get("tags", []) for cell in notebook.cells) > 1:
        yield "more than one cell is tagged checks"
    for index, cell in enumerate(notebook.cells):
        for problem in _cell_problems(cell, folder):
            yield f"cell {index}: {problem}"


def _parameter_problems(source: str) -> Iterator[str]:
    for line in filter(str.strip, source.splitlines()):
        try:
            (statement,) = ast.parse(line).body
            ast.literal_eval(statement.value)
            named = isinstance(statement, ast.AnnAssign)
        except (SyntaxError, ValueError, AttributeError):
            named = False
        if not named or not line.partition("#")[2].strip():
            yield f"parameters: write `name: type = literal  # meaning`, not {line!r}"


def _cell_problems(cell: nbformat.NotebookNode, folder: Path) -> Iterator[str]:
    foreign = EXECUTION_METADATA & set(cell.metadata)
    if "checks" in cell.metadata.get("tags", []):
        foreign -= {"jupyter"}
        if cell.metadata.get("jupyter") != COLLAPSED:
            yield f"checks stand in the reader's way: give the cell the metadata jupyter: {COLLAPSED}"
    if foreign:
        yield f"metadata of an execution: {sorted(foreign)}"
    if cell.cell_type == "markdown":
        yield from _link_problems(cell.source, folder)
    if cell.cell_type != "code":
        return
    lines = cell.source.splitlines()
    if len(lines) > LONGEST_CELL:
        yield f"{len(lines)} lines of code, {LONGEST_CELL} at most"
    for line in lines:
        if re.match(r"\s*[%!]", line) and re.search(r"\bpip\b.*[<>]", re.sub(r"'[^']*'|\"[^\"]*\"", "", line)):
            yield f"a shell takes > for a file: quote the requirement in {line.strip()!r}"
        if re.match(r"\s*%\s*matplotlib\b|\s*from \S+ import \*", line):
            yield f"{line.strip()!r} is not needed"
    if NOISE["an absolute path"].search(cell.source):
        yield "an absolute path in the code"
    for output in cell.outputs:
        if output.output_type == "error" or output.get("name") == "stderr":
            yield "an error or stderr in the outputs"
        shown = {kind: data for kind, data in output.get("data", {}).items() if not kind.startswith("image/")}
        text = f"{shown or ''}{output.get('text', '')}"
        yield from (f"{name} in the outputs" for name, pattern in NOISE.items() if pattern.search(text))


def _link_problems(source: str, folder: Path) -> Iterator[str]:
    for mark, *targets in LINK.findall(source):
        target = "".join(targets)
        if target.startswith(("https://", "http://", "attachment:")):
            if mark and "badge" not in target:
                yield f"the picture {target} does not lie in the repository"
        elif target.startswith("/") or (target[0] != "#" and not (folder / target.partition("#")[0]).exists()):
            yield f"the link {target} leads nowhere"


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_the_rules(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert list(problems(notebook, path.parent)) == []


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if "solutions" not in p.parts], ids=lambda path: path.stem)
def test_a_lesson_shows_its_figures_to_readers_who_do_not_run_it(path):
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "run tests.notebooks.publish on it"
    assert path.stat().st_size < 1_000_000


@pytest.fixture
def good():
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}})
    output = nbformat.v4.new_output("stream", text="loss 0.5, 1/3 of the way; see https://example.org/home/x\n")
    notebook.cells = [
        nbformat.v4.new_markdown_cell("[readme](../README.md), [web](https://example.org), [here](#here)"),
        nbformat.v4.new_code_cell("steps: int = 5  # of training", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell('%pip install -q "torch>=2.6"\nprint(steps)', outputs=[output]),
        nbformat.v4.new_code_cell("assert steps > 0", metadata={"tags": ["checks"], "jupyter": {"source_hidden": True}}),
    ]
    return notebook


def test_a_good_notebook_passes(good):
    assert list(problems(good, ROOT / "notebooks")) == []


def _output(**fields):
    return lambda n: n.cells[2].outputs.append(nbformat.v4.new_output(**fields))


BREACHES = {
    "the kernel is not python3": lambda n: n.metadata.kernelspec.update(name="my-venv"),
    "metadata holds \\['widgets'\\]": lambda n: n.metadata.update(widgets={}),
    "language_info": lambda n: n.metadata.language_info.update(version="3.11.7"),
    "0 cells are tagged": lambda n: n.cells[1].metadata.clear(),
    "2 cells are tagged": lambda n: n.cells.append(copy.deepcopy(n.cells[1])),
    "write `name: type = literal": lambda n: n.cells[1].update(source="steps: int = 5  # a\nhalf: int = steps // 2  # b"),
    "more than one cell is tagged checks": lambda n: n.cells.append(copy.deepcopy(n.cells[3])),
    "checks stand in the reader's way": lambda n: n.cells[3].metadata.pop("jupyter"),
    "metadata of an execution: \\['papermill'\\]": lambda n: n.cells[2].metadata.update(papermill={"duration": 1}),
    "metadata of an execution: \\['jupyter'\\]": lambda n: n.cells[2].metadata.update(jupyter={"source_hidden": True}),
    "lines of code": lambda n: n.cells[2].update(source="x = 1\n" * 26),
    "leads nowhere": lambda n: n.cells[0].update(source="[gone](../gone.md)"),
    "does not lie in the repository": lambda n: n.cells[0].update(source="![x](https://drive.example.org/x.png)"),
    "quote the requirement": lambda n: n.cells[2].update(source="!pip install torch>=2.6"),
    "is not needed": lambda n: n.cells[2].update(source="%matplotlib inline"),
    "absolute path in the code": lambda n: n.cells[2].update(source="open('/home/me/x')"),
    "absolute path in the outputs": _output(output_type="stream", text="saved to /tmp/x"),
    "memory address": _output(output_type="execute_result", data={"text/plain": "<Axes at 0x7f00deadbeef>"}),
    "progress bar": _output(output_type="stream", text=" 40%|####      | 2/5"),
    "stderr": _output(output_type="stream", name="stderr", text="warning"),
    "an error": _output(output_type="error", ename="E", evalue="", traceback=[]),
}


@pytest.mark.parametrize("message", BREACHES)
def test_each_rule_catches_its_breach(good, message):
    BREACHES[message](good)
    assert any(re.search(message, problem) for problem in problems(good, ROOT / "notebooks")), list(problems(good, ROOT / "notebooks"))
