"""Everything that lesson 05 imports, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...data.tasks import load_source, spread_evenly
from ...evaluation.metrics import extract
from ...support.world import data_folder
from ..explorers import explore, precompute
from ..filmstrip import filmstrip
from ..folders import empty_folder
from ..parts import GUIDANCES, beside, ratio, read_parts, rise_avoided, runs_in_words, score
from ..parts_figures import avoided_figure, loss_figure, score_figure
from ..predictions import predict
from .answers import (
    BANKS,
    LABELS,
    ROW_NAMES,
    SHARES,
    WITHOUT,
    answer_in_words,
    avoided_by_hand,
    banks_in_words,
    labels_and_new_samples,
    labels_in_words,
    noise_and_memories,
    noise_in_words,
    number_or_kind,
    share_of_memories,
    share_of_noise,
)
from .coverage import equal_shares, load_table, real_scores, scores, source_features
from .figures import class_rows, coverage_figure

if TYPE_CHECKING:
    from ...data.tasks import Task
    from ...models.pretrained import Pretrained
    from ...training.memory_bank import MemoryBank

__all__ = [
    "BANKS", "GUIDANCES", "LABELS", "ROW_NAMES", "SHARES", "WITHOUT", "answer_in_words", "avoided_by_hand", "avoided_figure",
    "banks_in_words", "beside", "class_rows", "coverage_figure", "data_folder", "empty_folder", "equal_shares", "explore", "extract", "filmstrip",
    "first_of_each", "kinds_of", "labels_and_new_samples", "labels_in_words", "load_source", "load_table", "loss_figure",
    "noise_and_memories", "noise_in_words", "number_or_kind", "pictures_of", "precompute", "predict", "ratio",
    "read_parts", "real_scores", "rise_avoided", "runs_in_words", "score", "score_figure", "scores",
    "share_of_memories", "share_of_noise", "source_features", "spread_evenly",
]  # fmt: skip


def kinds_of(source: Task) -> dict[str, str]:
    """The kind of every source class, by its name."""
    return {source.class_names[label]: kind for label, kind in source.kind_of.items()}


def first_of_each(source: Task, names: list[str]) -> tuple[Tensor, Tensor]:
    """The first picture of each named class; (n, 3, H, W) and their labels (n,)."""
    labels = torch.tensor([source.class_names.index(name) for name in names])
    return source.read([int((source.labels == label).nonzero()[0]) for label in labels]), labels


def pictures_of(kind: str, pretrained: Pretrained, bank: MemoryBank, source: Task, count: int = 8) -> tuple[dict[str, Tensor], list[str]]:
    """One bank picture of each of up to `count` classes of a kind, a source picture of each below it, and the classes' names.

    Classes of one word come first: their names have room above the pictures.
    """
    kind_of, held = kinds_of(source), [pretrained.label_names[label] for label in bank.labels.tolist()]
    names = [name for name in dict.fromkeys(held) if kind_of.get(name) == kind]
    names = sorted(names, key=lambda name: "-" in name)[:count]  # otherwise in the bank's order
    places = torch.tensor([held.index(name) for name in names])
    return {"bank": bank.images(pretrained, places), "source": first_of_each(source, names)[0]}, names
