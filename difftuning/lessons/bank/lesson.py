"""Everything that lesson 05 imports, in one place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...data.tasks import load_source
from ...evaluation.metrics import extract
from ...support.world import data_folder
from ..explorers import explore, precompute
from ..filmstrip import filmstrip
from ..folders import run_folder
from ..parts import loss_figure, ratio, read_parts, score, score_figure
from ..predictions import predict
from .coverage import SIZES, equal_shares, expected_coverage, load_table, real_scores
from .figures import class_rows, coverage_figure

if TYPE_CHECKING:
    from ...data.tasks import Task
    from ...models.pretrained import Pretrained
    from ...training.memory_bank import MemoryBank
    from ..parts import Parts

__all__ = [
    "SIZES", "class_rows", "coverage_figure", "data_folder", "equal_shares", "expected_coverage", "explore", "extract", "filmstrip",
    "kinds_of", "labels_in_words", "least_in_words", "load_source", "load_table", "loss_figure", "pictures_of",
    "precompute", "predict", "ratio", "read_parts", "real_scores", "run_folder", "score", "score_figure",
]  # fmt: skip

ALIKE = 0.02  # ratios this near to each other are no difference


def kinds_of(source: Task) -> dict[str, str]:
    """The kind of every source class, by its name."""
    return {source.class_names[label]: kind for label, kind in source.kind_of.items()}


def pictures_of(kind: str, pretrained: Pretrained, bank: MemoryBank, source: Task, count: int = 10) -> tuple[dict[str, Tensor], list[str]]:
    """One bank picture of each of up to `count` classes of a kind, a source picture of each below it, and the classes' names."""
    kind_of, names, places = kinds_of(source), [], []
    for place, label in enumerate(bank.labels.tolist()):
        name = pretrained.label_names[label]
        if kind_of.get(name) == kind and name not in names and len(names) < count:
            names.append(name)
            places.append(place)
    real = [int((source.labels == source.class_names.index(name)).nonzero()[0]) for name in names]
    return {"bank": bank.images(pretrained, torch.tensor(places)), "source": source.read(real)}, names


def labels_in_words(parts: Parts) -> str:
    """Which labels keep the source's loss lower at the data end; within 2 % on average over the tasks there is no difference."""
    null, own = (_source_at_data_end(parts, method) for method in ("Diff-Tuning", "Diff-Tuning, own labels"))
    if abs(own / null - 1) < ALIKE:
        return "neither: there is hardly a difference"
    return "their own labels" if own < null else "the null label"


def least_in_words(parts: Parts) -> str:
    """Which of three banks leaves the source's loss highest at the data end."""
    banks = {"a hundred pictures": "bank of 100", "far classes only": "bank of far classes", "noise": "bank of noise"}
    return max(banks, key=lambda words: _source_at_data_end(parts, banks[words]))


def _source_at_data_end(parts: Parts, method: str) -> float:
    """Loss after / before in the first three tenths, geometric mean over the tasks."""
    return math.prod(ratio(parts, task, "source", method, [1, 2, 3]) for task in parts.tasks) ** (1 / len(parts.tasks))
