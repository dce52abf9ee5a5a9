"""The source set: photographs of garments, icon concepts, Latin letters."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections import defaultdict

import numpy as np
from duplicates import DRAWN, PHOTOGRAPHED, SAME_DRAWING, distinct, report, resembles
from pictures import draw_icon, draw_letter, font_letters, pad
from PIL import ImageFont
from registries import FASHION, ICON_FAMILIES, LATIN_FONTS, debian_files, icon_family
from tqdm import tqdm

KINDS = ["photograph", "icon", "letter", "collection"]
GARMENTS = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
FOOTWEAR = [5, 7, 9]
TASK_SHOES = 12_100  # of 21,000; the others are one class of the source
SHARED_BY = 9  # families that must have a concept
VARIANTS = (20, 140)  # a concept's distinct pictures: fewer is no class, more are cut
HELD_OUT_PHOTOGRAPHS = 215  # of each garment
HELD_OUT = 13  # of 256: by the picture's own hash, so that a change elsewhere in the source moves no picture
FONT_FILES = (6, 260)  # of one package, of all
STYLES = set(
    "outline outlined fill filled bold line linear duotone thin light regular solid sharp round rounded twotone baseline "
    "color alt variant 10 12 16 20 24 28 32 48 64 glyph".split()
)
# Not concepts, or the field of a downstream task (marks and brands, flags, letters, and what shows digits: heading-1, forward-30).
LEFT_OUT = re.compile(
    r"^(arrow|chevron|caret|angle|sort|align|text|format|letter|number|alpha|flag|border|brand|logo|layout|corner|direction|"
    r"swipe|gesture|trending|expand|collapse|type|font|h\d|filter|row|column|flip|rotate|menu|more|list|grid|view|"
    r"timer|crop|forward|fast-forward|skip-|rewind|replay|heading|calendar|percent|medal|keyboard|hd$|video$|"
    r"x$|\d).*|.*(arrow|google|apple|facebook|twitter|github|gitlab|youtube|linkedin|instagram|android|windows|whatsapp|telegram|"
    r"discord|slack|spotify|figma|dribbble|behance|pinterest|reddit|tiktok|snapchat|bitcoin|paypal|amazon|netflix|twitch|chrome|"
    r"safari|microsoft|dropbox|skype|steam|medium|codepen|python|javascript|html|css|docker|openai|meta$|visa|mastercard).*"
)


def garment_photographs(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST's "train" or "t10k" file as (N, 32, 32) uint8 and its own labels."""
    (images,) = debian_files(FASHION).rglob(f"{part}-images-idx3-ubyte.gz")
    labels = images.with_name(f"{part}-labels-idx1-ubyte.gz")
    pixels = np.frombuffer(gzip.decompress(images.read_bytes())[16:], np.uint8).reshape(-1, 28, 28)
    return pad(pixels), np.frombuffer(gzip.decompress(labels.read_bytes())[8:], np.uint8).astype(np.int64)


def shoes() -> tuple[np.ndarray, np.ndarray]:
    """Both files' footwear in one shuffled order: the task's first, then the source's."""
    (images, garments), (tests, test_garments) = garment_photographs("train"), garment_photographs("t10k")
    images, garments = np.concatenate([images, tests]), np.concatenate([garments, test_garments])
    places = np.random.default_rng(4).permutation(np.flatnonzero(np.isin(garments, FOOTWEAR)))
    return images[places], garments[places]


def icon_concepts() -> dict[str, np.ndarray]:
    """Concept name -> its distinct pictures over the families, styles merged."""
    families = defaultdict(lambda: defaultdict(list))
    for family in ICON_FAMILIES:
        for name, icon in icon_family(family)["icons"].items():
            concept = _concept(name)
            if concept and not LEFT_OUT.fullmatch(concept):
                families[concept][family].append(icon)
    shared = {concept: drawn for concept, drawn in sorted(families.items()) if len(drawn) >= SHARED_BY}
    concepts = {}
    for concept, drawn in tqdm(shared.items(), desc="icon concepts"):
        pictures = [picture for icons in drawn.values() for picture in map(draw_icon, icons) if picture is not None]
        pictures = np.stack(pictures)
        pictures = pictures[distinct(pictures, SAME_DRAWING)]
        if len(pictures) >= VARIANTS[0]:
            order = np.random.default_rng(0).permutation(len(pictures))[: VARIANTS[1]]
            concepts[concept] = pictures[order]
    return concepts


def _concept(name: str) -> str:
    parts = name.split("-")
    while len(parts) > 1 and (parts[-1] in STYLES or parts[-1].isdigit()):
        parts.pop()
    while len(parts) > 1 and parts[0] in STYLES:  # Material writes the style in front
        parts.pop(0)
    return "-".join(parts)


def latin_letters() -> dict[str, np.ndarray]:
    """Letter name -> its distinct pictures, both cases, over the font files."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    needed = {ord(letter) for letter in alphabet + alphabet.lower()}
    drawn = defaultdict(list)
    for path in tqdm(font_files(LATIN_FONTS, needed), desc="fonts"):
        font = ImageFont.truetype(str(path), 96)
        for letter in alphabet + alphabet.lower():
            picture = draw_letter(font, letter)
            if picture is not None:
                drawn[f"letter {letter.upper()}"].append(picture)
    letters = {}
    for name, pictures in sorted(drawn.items()):
        pictures = np.stack(pictures)
        letters[name] = pictures[distinct(pictures, SAME_DRAWING)]
    return letters


def font_files(packages: list[str], needed: set[int], most: tuple[int, int] = FONT_FILES) -> list:
    """Font files of the packages that have every code point, at most so many of each package and of all."""
    files = []
    for package in packages:
        found = sorted(p for p in debian_files(package).rglob("*") if p.suffix.lower() in (".ttf", ".otf", ".ttc") and p.is_file())
        fitting = [path for path in found if needed <= font_letters(path)]
        step = max(1, len(fitting) // most[0])
        files += fitting[::step][: most[0]]
    return files[: most[1]]


def build_source(task_pictures: np.ndarray) -> tuple[dict[str, np.ndarray], list[str], dict]:
    """Arrays of the full source, class names and counts; what resembles a task's picture is left out."""
    from kinds import COLLECTIONS  # it uses this file's fonts

    names, pictures, labels, kinds = [], [], [], []

    def add(name: str, images: np.ndarray, kind: int) -> None:
        pictures.append(images)
        labels.append(np.full(len(images), len(names), np.int64))
        kinds.append(np.full(len(images), kind, np.int64))
        names.append(name)

    photographs, garments = garment_photographs("train")
    tests, test_garments = garment_photographs("t10k")
    for garment, name in enumerate(GARMENTS):
        if garment not in FOOTWEAR:
            add(name, photographs[garments == garment], 0)
    for concept, images in icon_concepts().items():
        add(concept, images, 1)
    for letter, images in latin_letters().items():
        add(letter, images, 2)
    footwear = shoes()[0][TASK_SHOES:]
    add("shoe", footwear[HELD_OUT_PHOTOGRAPHS:], 0)
    for collection in COLLECTIONS:
        for name, images in collection().items():
            add(name, images, 3)
    images, labels, kinds = np.concatenate(pictures), np.concatenate(labels), np.concatenate(kinds)
    alike = (kinds == 0) | (labels == names.index("handwritten digit"))  # honestly alike: only the same picture counts

    def known(images: np.ndarray, alike: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.where(alike, resembles(images, others, PHOTOGRAPHED), resembles(images, others, DRAWN))

    clash = known(images, alike, task_pictures)
    report("source", "training and held-out pictures resemble a task's", [names[label] for label in labels[clash]])
    images, labels, kinds, alike = images[~clash], labels[~clash], kinds[~clash], alike[~clash]
    held = (kinds > 0) & np.array([hashlib.sha256(image.tobytes()).digest()[0] < HELD_OUT for image in images])
    own = {garment: names.index(GARMENTS[garment]) for garment in range(10) if garment not in FOOTWEAR}
    picked = np.concatenate([np.flatnonzero(test_garments == garment)[:HELD_OUT_PHOTOGRAPHS] for garment in own])
    held_shoes = footwear[:HELD_OUT_PHOTOGRAPHS]
    photographed = np.concatenate([tests[picked], held_shoes])
    heldout = {
        "images": np.concatenate([photographed, images[held]]),
        "labels": np.concatenate([[own[g] for g in test_garments[picked]], np.full(len(held_shoes), names.index("shoe")), labels[held]]),
        "kinds": np.concatenate([np.zeros(len(photographed), np.int64), kinds[held]]),
    }
    train = {"images": images[~held], "labels": labels[~held], "kinds": kinds[~held]}
    held_alike = np.concatenate([np.ones(len(photographed), bool), alike[held]])
    same = np.where(
        held_alike,
        resembles(heldout["images"], train["images"][alike[~held]], PHOTOGRAPHED),
        resembles(heldout["images"], train["images"][~alike[~held]], DRAWN),
    )
    report("source", "held-out pictures resemble a training one", [names[label] for label in heldout["labels"][same]])
    heldout = {key: values[~same] for key, values in heldout.items()}
    counts = {
        "train": np.bincount(train["kinds"], minlength=len(KINDS)).tolist(), "heldout": np.bincount(heldout["kinds"], minlength=len(KINDS)).tolist(),
        "removed_because_a_task_has_them": int(clash.sum()), "removed_from_heldout": int(same.sum()),
    }  # fmt: skip
    arrays = {f"train_{k}": v for k, v in train.items()} | {f"heldout_{k}": v for k, v in heldout.items()}
    return arrays, names, counts
