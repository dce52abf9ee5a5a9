"""Everything that lesson 05 imports, in one place."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...data.tasks import load_source, spread_evenly
from ...evaluation.metrics import extract
from ...support.world import data_folder
from ..explorers import explore, precompute
from ..filmstrip import filmstrip
from ..folders import empty_folder
from ..knob_figures import knob_figure
from ..parts import ratio, read_parts, rise_avoided, runs_in_words
from ..parts_figures import avoided_figure, loss_figure, score_figure
from ..parts_words import compared_with, margin_in_words, where_sets_differ
from ..predictions import predict
from .answers import (
    LABELS,
    SHARES,
    answer_in_words,
    any_bank_in_words,
    avoided_by_hand,
    coverage_and_protection,
    labels_along_the_chain,
    labels_in_words,
    noise_and_memories,
    noise_in_words,
    protection_in_words,
    recap_in_words,
    short_and_long,
    size_and_share,
)
from .banks import BANKS, NAMES, NOISE, OWN, SHIPPED, WITHOUT, banks_in_words
from .coverage import equal_shares, load_table, real_scores, scores, source_features
from .figures import class_rows, coverage_figure

if TYPE_CHECKING:
    import pandas

    from ...data.tasks import Task
    from ...models.pretrained import Pretrained
    from ...training.memory_bank import MemoryBank

__all__ = [
    "BANKS", "LABELS", "NAMES", "NOISE", "OWN", "SHARES", "SHIPPED", "WITHOUT", "answer_in_words", "avoided_by_hand",
    "any_bank_in_words", "avoided_figure", "banks_in_words", "class_rows", "compared_with", "coverage_and_protection", "coverage_figure",
    "data_folder", "empty_folder", "equal_shares", "explore", "extract", "filmstrip", "first_of_each", "held_by_kind", "kinds_of",
    "knob_figure", "labels_along_the_chain", "labels_in_words", "load_source", "load_table", "loss_figure", "margin_in_words",
    "noise_and_memories", "noise_in_words", "pictures_of", "precompute", "predict", "protection_in_words", "ratio", "read_parts",
    "real_scores", "recap_in_words", "rise_avoided", "runs_in_words", "score_figure", "scores", "short_and_long", "size_and_share",
    "source_features", "spread_evenly", "where_sets_differ",
]  # fmt: skip


def kinds_of(source: Task) -> dict[str, str]:
    """The kind of every source class, by its name."""
    return {source.class_names[label]: kind for label, kind in source.kind_of.items()}


def held_by_kind(bank: MemoryBank, source: Task) -> pandas.DataFrame:
    """For each kind of the source: its pictures in the bank, its classes, and how many of these the bank holds no picture of."""
    import pandas

    kind_of, held = source.kind_of, bank.labels.tolist()
    pictures, classes = Counter(kind_of[label] for label in held), Counter(kind_of.values())
    missing = Counter(kind for label, kind in kind_of.items() if label not in set(held))
    rows = {kind: (pictures[kind], classes[kind], missing[kind]) for kind in source.card["kinds"]}
    return pandas.DataFrame.from_dict(rows, orient="index", columns=["pictures in the bank", "classes", "classes missing"])


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
