"""The folder of forty small pictures that stands in for the reader's own: animals that the source holds back.

python -m difftuning.lessons.quickstart.own_pictures     # writes notebooks/own_pictures again
"""

from __future__ import annotations

from pathlib import Path

from ...data.tasks import load_source
from ...support.files import atomic_path

ANIMALS, EACH = ("bird", "elephant", "giraffe", "horse"), 10


def example_folder(folder: str | Path) -> Path:
    """The folder, with the forty pictures in it if it is not there (on Colab, where a notebook comes alone)."""
    folder = Path(folder)
    if not folder.is_dir():
        write_pictures(folder)
    return folder


def write_pictures(folder: Path) -> None:
    """Ten held-out pictures of each animal as PNG files, a folder for each class."""
    from PIL import Image

    source = load_source("heldout")
    for name in ANIMALS:
        places = (source.labels == source.class_names.index(name)).nonzero().flatten()[:EACH]
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(source.read(places)):
            grey = ((picture[0] + 1) * 127.5).round().byte().numpy()
            with atomic_path(folder / name / f"{number:02}.png") as scratch:
                Image.fromarray(grey).save(scratch, format="PNG", optimize=True)


if __name__ == "__main__":
    write_pictures(Path(__file__).resolve().parents[3] / "notebooks" / "own_pictures")
