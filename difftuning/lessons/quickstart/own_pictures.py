"""The folder of forty small pictures that stands in for the reader's own: two things in a picture, where the source shows one.

The garments, bags and shoes are pictures that the source holds back.  Only their arrangement is new to the model.

python -m difftuning.lessons.quickstart.own_pictures     # writes notebooks/own_pictures again
"""

from __future__ import annotations

from pathlib import Path

from ...data.tasks import load_source
from ...support.files import atomic_path

OUTFITS, EACH = (("T-shirt", "trousers"), ("coat", "bag"), ("dress", "shoe"), ("pullover", "trousers")), 10
CLASSES = [" and ".join(outfit) for outfit in OUTFITS]
SHIPPED = "own_pictures"  # beside the notebooks
SIDE, SMALL = 32, 14  # pixels of a picture, and of each thing in it


def example_folder(name: str | Path = SHIPPED) -> str | Path:
    """What `load_task` is given for the reader's `name`: the same; only the shipped folder is made where it is not (on Colab a notebook comes alone)."""
    if str(name) == SHIPPED and not Path(name).is_dir():
        write_pictures(Path(name))
    return name


def write_pictures(folder: Path) -> None:
    """Ten held-out pictures of each outfit as PNG files, a folder for each: one thing at the top left, the other at the bottom right."""
    from PIL import Image

    source = load_source("heldout")
    used: dict[str, int] = {}  # pictures of each class, so that none comes twice
    for name, outfit in zip(CLASSES, OUTFITS):
        (folder / name).mkdir(parents=True, exist_ok=True)
        things = []
        for thing in outfit:
            first = used.get(thing, 0)
            used[thing] = first + EACH
            places = (source.labels == source.class_names.index(thing)).nonzero().flatten()[first : used[thing]]
            things.append(((source.read(places)[:, 0] + 1) * 127.5).round().byte().numpy())
        for number, pair in enumerate(zip(*things)):
            picture = Image.new("L", (SIDE, SIDE))
            for thing, corner in zip(pair, (0, SIDE - SMALL)):
                picture.paste(Image.fromarray(thing).resize((SMALL, SMALL), Image.Resampling.BOX), (corner, corner))
            with atomic_path(folder / name / f"{number:02}.png") as scratch:
                picture.save(scratch, format="PNG", optimize=True)


if __name__ == "__main__":
    write_pictures(Path(__file__).resolve().parents[3] / "notebooks" / "own_pictures")
