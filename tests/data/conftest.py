"""A made-up tiny world, and a folder of pictures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difftuning.support import world as world_module
from tests.data.helpers import grey


def write_checksums(folder: Path) -> None:
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "SHA256SUMS"]
    (folder / "SHA256SUMS").write_text("".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names))


@pytest.fixture
def fresh_checksums():
    """Each world is verified once per process: forget it before and after a made-up one."""
    caches = (world_module._verified, world_module._world_checksums)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def world(tmp_path, monkeypatch, fresh_checksums) -> Path:
    folder = tmp_path / "world"
    (folder / "tasks").mkdir(parents=True)
    (folder / "source").mkdir()
    for name, classes in {"digits": 10, "footwear": 3}.items():
        arrays = {}
        for seed, (split, n) in enumerate({"train": 20, "validation": 12, "test": 15}.items()):
            arrays |= {f"{split}_images": grey(n, seed), f"{split}_labels": np.arange(n) % classes}
        np.savez_compressed(folder / "tasks" / f"{name}.npz", **arrays)
        card = {"name": name, "class_names": [f"{name} {i}" for i in range(classes)], "flip": name == "footwear", "licence": "MIT"}
        (folder / "tasks" / f"{name}.json").write_text(json.dumps(card))
    arrays = {}
    for split, n in {"train": 9, "heldout": 4}.items():
        arrays |= {f"{split}_images": grey(n), f"{split}_labels": np.arange(n) % 2}
        arrays[f"{split}_kinds"] = np.arange(n) % 3
    np.savez_compressed(folder / "source" / "source.npz", **arrays)
    (folder / "source" / "source.json").write_text(json.dumps({"class_names": ["home", "camera"], "kinds": ["icon", "glyph", "photo"]}))
    write_checksums(folder)
    monkeypatch.setenv("DIFFTUNING_DATA", str(folder))
    return folder


@pytest.fixture
def flowers(tmp_path) -> Path:
    """Three classes of two photographs each, 80 x 60 pixels."""
    rng = np.random.default_rng(0)
    for name in ("tulip", "aster", "rose"):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "flowers" / name / f"{i}.png")
    return tmp_path / "flowers"
