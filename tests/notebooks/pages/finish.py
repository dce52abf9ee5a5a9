"""The last changes to a page's HTML: contents, links, captions, and room for what is wide."""

from __future__ import annotations

from bs4 import BeautifulSoup, Tag

from tests.notebooks.pages.lessons import page_link


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
    """An emphasised paragraph right below a figure, *like this*, is its caption."""
    for figure in soup.select(".output figure"):
        cell = figure.find_parent(class_="cell")
        after = cell.find_next_sibling()
        paragraph = after.find(True) if after and "text" in after.get("class", []) else None
        if figure is cell.select(".output figure")[-1] and paragraph is not None and _is_emphasised(paragraph):
            caption = soup.new_tag("figcaption")
            caption.extend(list(paragraph.em.contents))
            figure.append(caption)
            paragraph.decompose()


def _is_emphasised(paragraph: Tag) -> bool:
    parts = [part for part in paragraph.contents if str(part).strip()]
    return paragraph.name == "p" and len(parts) == 1 and getattr(parts[0], "name", None) == "em"


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
