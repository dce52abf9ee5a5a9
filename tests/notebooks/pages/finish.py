"""The last changes to a page's HTML: contents, links, captions, and room for what is wide."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup, Tag

from tests.notebooks.pages.lessons import page_link

SENTENCES = re.compile(r"[.?!]\W*$")


def finish(html: str, pages: set[str]) -> str:
    soup = BeautifulSoup(html, "html.parser")
    for link in soup.select("a[href]"):
        link["href"] = page_link(link["href"], pages)
    for picture in soup.select('img[src^="http"]'):  # a badge, say: its words do on a page that fetches nothing
        picture.replace_with(picture.get("alt", ""))
    for anchor in soup.select("a.anchor-link"):
        anchor.decompose()
    for table in soup.select("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "wide"}))
    _captions(soup)
    _contents(soup)
    return str(soup)


def _captions(soup: BeautifulSoup) -> None:
    """What begins *like this.* below a figure is its caption: right there among its cell's outputs, or in the text that follows."""
    for figure in soup.select(".output figure"):
        openings = _italic_openings(figure.find_next_sibling()) + _italic_openings(_text_below(figure))
        if not openings:
            continue
        caption = soup.new_tag("figcaption")
        for opening in openings:
            paragraph = opening.parent
            caption.extend([" "] * bool(caption.contents) + list(opening.extract().contents))
            if not paragraph.get_text(strip=True):
                paragraph.decompose()
        figure.append(caption)


def _text_below(figure: Tag) -> Tag | None:
    """The first block of the next text, if no other figure or table stands before it."""
    cell = figure.find_parent(class_="cell")
    if figure is not cell.select(".output figure")[-1]:
        return None
    for section in cell.find_next_siblings("section"):
        if "text" in section["class"]:
            return section.find(True)
        if section.select_one("figure, table"):
            return None
    return None


def _italic_openings(block: Tag | None) -> list[Tag]:
    """Whole sentences in italics with which paragraphs begin, up to one that has more to say; a word in italics is none."""
    openings = []
    while block is not None and block.name == "p":
        first, *more = [part for part in block.contents if str(part).strip()] or [None]
        if not (isinstance(first, Tag) and first.name == "em" and SENTENCES.search(first.get_text())):
            break
        openings.append(first)
        if more:
            break
        block = block.find_next_sibling()
    return openings


def _contents(soup: BeautifulSoup) -> None:
    """The chapters of the lesson, in the place that the template keeps."""
    place = soup.select_one("nav.contents ol")
    if place is None:
        return
    for heading in soup.select("main h2[id]"):
        item, link = soup.new_tag("li"), soup.new_tag("a", href=f"#{heading['id']}")
        link.extend([part.__copy__() for part in heading.contents])
        item.append(link)
        place.append(item)
    if not place.contents:
        place.parent.decompose()
