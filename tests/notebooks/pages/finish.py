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
    """What begins *like this.* right below a figure is its caption: among the outputs of its cell, or in the text that follows."""
    for figure in soup.select(".output figure"):
        cell = figure.find_parent(class_="cell")
        below, text = [figure.find_next_sibling()], cell.find_next_sibling()
        if figure is cell.select(".output figure")[-1] and text and "text" in text.get("class", []):
            below.append(text.find(True))
        openings = [opening for opening in map(_emphasised_opening, below) if opening]
        if not openings:
            continue
        caption = soup.new_tag("figcaption")
        for opening in openings:
            paragraph = opening.parent
            caption.extend([" ", *opening.extract().contents] if caption.contents else list(opening.extract().contents))
            if not paragraph.get_text(strip=True):
                paragraph.decompose()
        figure.append(caption)


def _emphasised_opening(block: Tag | None) -> Tag | None:
    """Whole sentences in italics with which a paragraph begins; a word in italics is none."""
    if block is None or block.name != "p":
        return None
    first = next((part for part in block.contents if str(part).strip()), None)
    return first if isinstance(first, Tag) and first.name == "em" and SENTENCES.search(first.get_text()) else None


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
