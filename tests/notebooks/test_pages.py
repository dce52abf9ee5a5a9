"""Pages of lessons: one file each, that fetches nothing and holds its pictures, formulas and frames; links between them hold."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from tests.browser.notebooks import EXPLORER, KERNEL
from tests.notebooks.pages.lessons import NOTEBOOKS, read_lesson, repository
from tests.notebooks.pages.write import LARGEST_PAGE, write_pages
from tests.notebooks.runner import run
from tests.notebooks.small_lessons import FIRST, MANY, SECOND, SHADES, START, write_lessons

LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
FETCHED = re.compile(r"url\(\s*['\"]?(?!data:)[^)]|@import|importScripts|\bimport\s*\(|<(?:link|iframe|object|embed|video|audio|source)\b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("pages")
    write_pages(write_lessons(place / "executed"), place / "pages")
    return place / "pages"


@pytest.fixture(scope="module")
def first(folder) -> BeautifulSoup:
    return read(folder / f"{FIRST}.html")


@pytest.fixture(scope="module")
def second(folder) -> BeautifulSoup:
    return read(folder / f"{SECOND}.html")


def read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def problems(path: Path) -> list[str]:
    """What a page would fetch, what it shows without words, and where its links lead to nothing."""
    soup, found = read(path), [f"fetches: {match}" for match in FETCHED.findall(path.read_text(encoding="utf-8"))]
    for element in soup.select("[src], [srcset], [poster]"):
        if not element.get("src", "").startswith("data:image/"):
            found.append(f"fetches {element.get('src')}")
    found += [f"an image without alt text: {str(image)[:80]}" for image in soup.select("img") if not image.get("alt")]
    for link in soup.select("a[href]"):
        place, _, fragment = link["href"].partition("#")
        if place.startswith("https://"):
            continue
        target = path.parent / (place or path.name)
        if not target.is_file() or (fragment and not any(e["id"] == fragment for e in read(target).select("[id]"))):
            found.append(f"a link to nothing: {link['href']}")
    if path.stat().st_size > LARGEST_PAGE:
        found.append(f"{path.stat().st_size} bytes")
    return found


@pytest.mark.parametrize("name", [FIRST, SECOND, "index"])
def test_a_page_fetches_nothing_describes_its_images_and_links_to_what_is_there(folder, name):
    assert problems(folder / f"{name}.html") == []


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_committed_lesson_becomes_such_a_page(path, tmp_path):
    for page in write_pages([path], tmp_path):
        assert problems(page) == []
    text = read(tmp_path / f"{path.stem}.html")
    for code in text.select("pre, code, script, style"):
        code.decompose()
    assert not re.search(r"\$|\\[a-z]+\{", text.main.get_text()), "a formula was left as LaTeX"


# Explorers


def explorers(soup: BeautifulSoup) -> list[dict]:
    return [json.loads(script.string) for script in soup.select(".explorer script")]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_every_frame_is_in_the_page_pixel_by_pixel(first):
    given, _ = explorers(first)
    assert len(given["frames"]) == 10
    for i, t in enumerate(SHADES.axes["t"]):
        for k, colour in enumerate(SHADES.axes["colour"]):
            kind, _, data = given["pictures"][given["frames"][f"{i},{k}"]].partition(",")
            assert kind.startswith("data:image/")
            assert np.array_equal(pixels(base64.b64decode(data)), pixels(SHADES(t=t, colour=colour)))


def test_a_frame_is_stored_once_and_smaller_than_as_png(first):
    for given in explorers(first):
        assert len(set(given["pictures"])) == len(given["pictures"])
    png = len(base64.b64encode(SHADES(**START)))
    assert len(explorers(first)[0]["pictures"][0]) < png


def test_the_first_picture_stands_there_before_any_script_runs(first):
    box = first.select_one(".explorer")
    given, _ = explorers(first)
    assert box.img["src"] == given["pictures"][given["frames"]["2,0"]]
    assert box.img["alt"] == "t = 300, colour = red. A shade: [110, 0, 0]." and (box.img["width"], box.img["height"]) == ("800", "300")
    assert box.select_one(".controls").has_attr("hidden"), "sliders that nothing moves yet"


def test_numbers_have_a_slider_words_a_choice_one_value_nothing(first):
    few, many = first.select(".explorer")
    assert [label.get_text(" ", strip=True).split()[0] for label in few.select("label")] == ["t", "colour"]
    slider, choice = few.select("input, select")
    assert (slider["type"], slider["min"], slider["max"], slider["value"]) == ("range", "0", "4", "2")
    assert [option.get_text() for option in choice.select("option")] == ["red", "blue"]
    assert len(many.select("input")) == 2 and not many.select("select")


def test_an_explorer_with_too_many_settings_says_what_is_missing(first):
    few, many = first.select(".explorer")
    assert not few.select(".note") and "puts the others back" in many.select_one(".note").get_text()
    kept = explorers(first)[1]["frames"]
    assert len(kept) == 1 + 9 + 9 < len(MANY.axes["t"]) * len(MANY.axes["more"])


@pytest.mark.slow
def test_a_notebook_run_for_pages_gives_its_frames_and_otherwise_one_line(tmp_path, monkeypatch):
    """Through a kernel, as `make pages` does it."""
    cells = [
        EXPLORER,
        "frames = precompute(draw, power=[1, 2, 3], law=['rising', 'falling'])\nfilmstrip(frames)",
        "explore(frames, power=2)",
        "predict('Which?', ['this', 'that'])",
    ]
    cells[0] += "\nfrom difftuning.lessons.filmstrip import filmstrip\nfrom difftuning.lessons.predictions import predict"
    notebook = new_notebook(cells=[new_markdown_cell("# A\n\nWhy?"), *map(new_code_cell, cells)], metadata={"kernelspec": KERNEL})
    nbformat.write(notebook, tmp_path / "00_a.ipynb")
    monkeypatch.setenv("DIFFTUNING_FRAMES", "on")
    run(tmp_path / "00_a.ipynb", tmp_path / "executed" / "00_a.ipynb", seconds=120)
    page, _ = write_pages([tmp_path / "executed" / "00_a.ipynb"], tmp_path / "pages")
    (given,) = explorers(read(page))
    assert problems(page) == [] and len(given["frames"]) == 6 and len(read(page).select("figure img")) == 2
    assert [box["value"] for box in read(page).select(".prediction input")] == ["this", "that"]
    monkeypatch.delenv("DIFFTUNING_FRAMES")
    published = run(tmp_path / "00_a.ipynb", tmp_path / "plain" / "00_a.ipynb", seconds=120)
    assert published.cells[-1].outputs[0].data["text/plain"] == "Predict: Which? (this / that)"
    (output,) = published.cells[-2].outputs
    assert output.data["text/plain"] == "Run the notebook to change: power (1 to 3), law (rising, falling)."
    assert len(json.dumps(output)) < 1000


# What else is on a page


def test_formulas_are_mathml(first):
    assert len(first.select("math")) >= 3 and first.select('.formula > math[display="block"] munder')
    assert "$" not in first.main.get_text()


def test_a_formula_that_cannot_be_converted_is_named(tmp_path):
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A\n\n$\\nonsense{x}$")]), tmp_path / "00_a.ipynb")
    with pytest.raises(ValueError, match="the formula .*nonsense.* has no MathML"):
        write_pages([tmp_path / "00_a.ipynb"], tmp_path)


def test_code_is_highlighted_and_collapsed_where_tagged(first, second):
    assert first.select(".cell .highlight .mi")
    hidden = first.find("summary", string="Code").parent
    assert "explore" in hidden.get_text() and not hidden.has_attr("open") and not hidden.select("img")
    checks = second.find("summary", string=re.compile("checks")).parent
    assert "assert" in checks.get_text() and not checks.has_attr("open")


def test_figures_have_alt_text_and_the_emphasised_line_below_as_caption(first):
    figure = first.select_one(".output figure")
    assert figure.img["alt"] == "One shade." and figure.figcaption.get_text().startswith("Darker with every step of")
    assert len(first.find_all(string=re.compile("Darker"))) == 1


def test_captions_are_whole_sentences_in_italics_below_a_figure_wherever_they_come_from(second):
    captions = [figure.figcaption and figure.figcaption.get_text() for figure in second.select(".output figure")]
    assert captions == [None, "The first remark.", "The second\nremark. What the text says (of t). And more of it."]
    left = second.main.get_text()
    assert all(text in left for text in ("No caption is a word", "More about it.", "And more.", "Then it goes on.", "This is no caption."))
    assert left.count("remark") == 2 and "emark.*" not in left


def test_a_prediction_is_a_question_with_its_answers_to_choose_from(second):
    first, last = second.select("form.prediction")
    assert first.legend.get_text() == "Your prediction. And then?" and last.legend.get_text() == "Your prediction. And at last?"
    for form in (first, last):
        assert [label.get_text(strip=True) for label in form.select("label")] == ["darker", "as dark & no more"]
        assert [box["value"] for box in form.select('input[type="radio"]')] == ["darker", "as dark & no more"]


def test_exercises_and_other_widgets_say_that_they_run_in_the_notebook(second):
    widget, exercise = second.select(".note")
    assert "works in the notebook" in widget.get_text() and "It grades itself" in exercise.get_text()
    assert widget.a["href"] == exercise.a["href"] == f"{repository()}/blob/main/notebooks/{SECOND}.ipynb"
    assert not second.select("button, select") and "RadioButtons" not in second.get_text() and "✗" not in second.get_text()


def test_what_papermill_added_and_warnings_stay_out(first):
    assert "steps = 7" not in first.get_text() and "a warning" not in first.get_text() and "steps" in first.get_text()


def test_a_picture_from_elsewhere_becomes_its_words(first):
    assert first.find("a", string="Open in Colab")["href"] == "https://example.org"


# Between pages


def test_links_lead_to_pages_where_there_are_some_and_to_the_repository_otherwise(first):
    links = {link.get_text(): link["href"] for link in first.select("main a")}
    assert links["the next lesson"] == f"{SECOND}.html#More" and links["this one"] == "#Explorers"
    assert links["the readme"] == f"{repository()}/blob/main/README.md" and links["the data"] == f"{repository()}/tree/main/data"


def test_a_lesson_has_its_contents_its_neighbours_and_the_index(first, second):
    assert [link.get_text() for link in first.select(".contents a")] == ["Formulas and links", "Explorers"]
    assert [(link["rel"], link["href"]) for link in first.select(".neighbours a")] == [(["next"], f"{SECOND}.html")]
    assert [(link["rel"], link["href"]) for link in second.select(".neighbours a")] == [(["prev"], f"{FIRST}.html")]
    assert first.select_one('header a[href="index.html"]')


def test_the_index_lists_every_lesson_with_its_question(folder):
    items = read(folder / "index.html").select(".lessons > li")
    assert [item.a["href"] for item in items] == [f"{FIRST}.html", f"{SECOND}.html"]
    assert [item.a.get_text() for item in items] == ["Shades", "More shades"]
    assert [item.p.get_text() for item in items] == ["How dark is t?", "What is left?"]


def test_every_committed_lesson_begins_with_a_title_and_a_question():
    for lesson in map(read_lesson, LESSONS):
        assert lesson.title and lesson.question.rstrip().endswith("?"), lesson.name


def test_a_page_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.notebooks.pages.write.LARGEST_PAGE", 20_000)
    with pytest.raises(ValueError, match=f"{FIRST}.html would have .* MB"):
        write_pages(write_lessons(tmp_path), tmp_path)
