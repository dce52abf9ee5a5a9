"""What a page needs to know about the lessons: their titles, their questions, and where links lead."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = ROOT / "notebooks"
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
QUESTION = re.compile(r"^\*\*Question[.:]?\*\*\s*|^\*\*Question[.:]?(?= )")


@dataclass(frozen=True)
class Lesson:
    """A lesson with its outputs, wherever the executed copy lies."""

    name: str  # such as 04_timestep_weights
    title: str
    question: str  # Markdown
    notebook: NotebookNode

    @property
    def page(self) -> str:
        return f"{self.name}.html"


def read_lesson(path: Path) -> Lesson:
    """Title and question stand in the first cell: a heading, and the paragraph below it."""
    notebook = nbformat.read(path, as_version=4)
    first = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), "")
    title = TITLE.search(first)
    if not title:
        raise ValueError(f"{path.name} has no title: its first text should begin with `# `")
    paragraph = first[title.end() :].strip().split("\n\n")[0]
    return Lesson(path.stem, title[1].strip(), QUESTION.sub("", paragraph), notebook)


def repository() -> str:
    """The address, from the one place where it stands."""
    (address,) = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"].values()
    return address


def in_repository(path: Path) -> str:
    """Where a file or folder of the clone is read online."""
    place = path.resolve().relative_to(ROOT)
    return f"{repository()}/{'tree' if path.is_dir() else 'blob'}/main/{place.as_posix()}"


def page_link(target: str, pages: set[str]) -> str:
    """A link of a notebook as it must read on a page: another lesson's page, or the file in the repository."""
    place, mark, fragment = target.partition("#")
    if not place or place in pages or re.match(r"[a-z][a-z0-9+.-]*:", place):
        return target
    path = (NOTEBOOKS / place).resolve()
    if path.parent == NOTEBOOKS and path.suffix == ".ipynb" and f"{path.stem}.html" in pages:
        return f"{path.stem}.html{mark}{fragment}"
    if not path.is_relative_to(ROOT):
        raise ValueError(f"the link {target} leads out of the repository")
    return in_repository(path) + mark + fragment
