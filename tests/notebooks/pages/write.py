"""Executed notebooks in, pages out: one HTML file for each lesson, and an index."""

from __future__ import annotations

from pathlib import Path

from tests.notebooks.pages.exporter import PageExporter, code_colours
from tests.notebooks.pages.finish import finish
from tests.notebooks.pages.lessons import NOTEBOOKS, Lesson, in_repository, read_lesson
from tests.notebooks.pages.prepare import prepare

LARGEST_PAGE = 12_000_000  # bytes: what a phone should be asked to load


def write_pages(notebooks: list[Path], folder: Path) -> list[Path]:
    """A page for each executed notebook, in this order, and index.html."""
    lessons = [read_lesson(path) for path in notebooks]
    exporter = PageExporter()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for place, lesson in enumerate(lessons):
        neighbours = {"before": lessons[place - 1] if place else None, "after": lessons[place + 1] if place + 1 < len(lessons) else None}
        written.append(_write(folder / lesson.page, lesson_page(exporter, lesson, lessons, neighbours)))
    written.append(_write(folder / "index.html", index_page(exporter, lessons)))
    return written


def lesson_page(exporter: PageExporter, lesson: Lesson, lessons: list[Lesson], neighbours: dict[str, Lesson | None]) -> str:
    resources = {
        "metadata": {"name": lesson.name, "path": str(NOTEBOOKS)},
        "lesson": lesson,
        "source": in_repository(NOTEBOOKS / f"{lesson.name}.ipynb"),
        "code_colours": code_colours,
        **neighbours,
    }
    html, _ = exporter.from_notebook_node(prepare(lesson.notebook), resources)
    return finish(html, page_names(lessons))


def index_page(exporter: PageExporter, lessons: list[Lesson]) -> str:
    questions = {lesson.name: exporter.markdown(lesson.question) for lesson in lessons}
    style = exporter.environment.loader.get_source(exporter.environment, "page.css")[0]
    html = exporter.environment.get_template("home.html.j2").render(lessons=lessons, questions=questions, style=style)
    return finish(html, page_names(lessons))


def page_names(lessons: list[Lesson]) -> set[str]:
    return {"index.html", *(lesson.page for lesson in lessons)}


def _write(path: Path, html: str) -> Path:
    size = len(html.encode())
    if size > LARGEST_PAGE:
        raise ValueError(f"{path.name} would have {size / 1e6:.1f} MB, {LARGEST_PAGE / 1e6:.0f} at most: give its explorers fewer values")
    path.write_text(html, encoding="utf-8")
    return path
