"""Find near-duplicates: pictures whose blurred copies correlate above a threshold."""

from __future__ import annotations

from collections import Counter
from typing import Iterable

import numpy as np

DRAWN = 0.95  # icons, letters, flags: a thicker stroke or a shift by a pixel still counts as the same picture
PHOTOGRAPHED = 0.995  # garments and handwriting of one class are honestly alike: only the same picture counts
SAME_DRAWING = 0.99  # inside a class or a split: of one icon in five sizes, or one font in two packages, one stays
BLOCK = 4096


def signatures(pictures: np.ndarray) -> np.ndarray:
    """(N, 32, 32) uint8 -> (N, 256) float32: averaged to 16x16, centred, of length 1."""
    small = pictures.reshape(len(pictures), 16, 2, 16, 2).mean((2, 4), dtype=np.float32).reshape(len(pictures), 256)
    small -= small.mean(1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)


def resembles(pictures: np.ndarray, others: np.ndarray, threshold: float) -> np.ndarray:
    """For each picture, whether any of the others correlates above the threshold; bool (N,)."""
    if len(pictures) == 0 or len(others) == 0:
        return np.zeros(len(pictures), bool)
    ours, theirs = signatures(pictures), signatures(others)
    nearest = np.full(len(ours), -1.0, np.float32)
    for first in range(0, len(theirs), BLOCK):
        nearest = np.maximum(nearest, (ours @ theirs[first : first + BLOCK].T).max(1))
    return nearest > threshold


def distinct(pictures: np.ndarray, threshold: float) -> np.ndarray:
    """Indices of pictures kept when, in order, each that resembles a kept one is dropped."""
    if len(pictures) == 0:
        return np.zeros(0, int)
    vectors = signatures(pictures)
    kept, chosen = np.empty_like(vectors), []
    for index, vector in enumerate(vectors):
        if not chosen or (kept[: len(chosen)] @ vector).max() <= threshold:
            kept[len(chosen)] = vector
            chosen.append(index)
    return np.array(chosen)


def report(where: str, what: str, left_out: Iterable[object]) -> None:
    """Print how many pictures are left out, and which: the names of their icons, fonts or classes."""
    names = Counter(map(str, left_out))
    listed = ", ".join(name if count == 1 else f"{name} ({count})" for name, count in sorted(names.items()))
    print(f"{where}: {names.total()} {what} and are left out" + (f": {listed}" if listed else ""))
