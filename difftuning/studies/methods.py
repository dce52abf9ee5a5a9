"""What the studies compare: plain fine-tuning, Diff-Tuning, its parts, and controls that should not work."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, Callable

import torch

from ..data.tasks import load_source
from ..support.random import seeded_generator
from ..support.world import data_folder
from ..training.memory_bank import MemoryBank

FAR_KIND = {"footwear": "letter", "digits": "photograph"}  # of source pictures, as unlike the task as the bank has them


@functools.cache
def shipped_bank(_task: str = "") -> MemoryBank:
    """The bank in data/, the same for every task."""
    return MemoryBank.load(data_folder() / "bank")


def _part(places: torch.Tensor) -> MemoryBank:
    bank = shipped_bank()
    return MemoryBank(bank.folder, bank.recipe, bank.latents[places], bank.labels[places])


def small_bank(_task: str) -> MemoryBank:
    """Its first hundred pictures."""
    return _part(torch.arange(100))


def bank_of_far_classes(task: str) -> MemoryBank:
    """Its pictures of one kind that is unlike the task; it is smaller, too."""
    kind_of = load_source().kind_of
    return _part(torch.tensor([kind_of.get(label) == FAR_KIND[task] for label in shipped_bank().labels.tolist()]))


def bank_of_noise(_task: str) -> MemoryBank:
    """Noise in place of the pictures: what is left of the bank when it knows nothing of the source."""
    bank = shipped_bank()
    noise = torch.randn(bank.latents.shape, generator=seeded_generator(0, "bank of noise", 0))
    return MemoryBank(bank.folder, bank.recipe, noise, bank.labels)


@dataclass(frozen=True)
class Method:
    """Settings of DiffTuningConfig beside the defaults, and the bank for a task (None: no bank)."""

    options: dict[str, Any] = field(default_factory=dict)
    bank: Callable[[str], MemoryBank] | None = shipped_bank


METHODS: dict[str, Method] = {
    "plain": Method({"reconsolidation_power": 0.0}, bank=None),
    "Diff-Tuning": Method(),
    "Diff-Tuning, own labels": Method({"bank_labels": "own"}),
    "reconsolidation only": Method(bank=None),
    "retention only": Method({"reconsolidation_power": 0.0}),
    "Diff-Tuning, weight 1": Method({"bank_weight": 1.0}),
    "weighted, not sampled": Method({"weighted": True}),
    "bank of 100": Method(bank=small_bank),
    "bank of far classes": Method(bank=bank_of_far_classes),
    "bank of noise": Method(bank=bank_of_noise),
    "weightings swapped": Method({"family": "swapped"}),
}
MAIN = ("plain", "Diff-Tuning")
PILOT = tuple(METHODS)[:5]  # the comparison itself first, then its variant and its parts
