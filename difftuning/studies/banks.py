"""The memory banks that the studies compare: a run's training task -> bank.  All have the recipe of the bank in data/."""

from __future__ import annotations

import functools
from typing import Callable

import torch

from ..data.latents import encode_latents
from ..data.tasks import Task, load_source
from ..models.loading import load_pretrained
from ..support.random import seeded_generator
from ..support.world import data_folder
from ..training.memory_bank import MemoryBank

BankOf = Callable[[Task], MemoryBank]
FAR_KIND = {"footwear": "letter", "digits": "photograph"}  # of source pictures, as unlike the task as the bank has them


@functools.cache
def _shipped() -> MemoryBank:
    return MemoryBank.load(data_folder() / "bank")


def _with(latents: torch.Tensor, labels: torch.Tensor) -> MemoryBank:
    return MemoryBank(_shipped().folder, _shipped().recipe, latents, labels)


def shipped_bank(_task: Task) -> MemoryBank:
    """The bank in data/, the same for every task."""
    return _shipped()


def first_pictures(count: int) -> BankOf:
    """Its first pictures alone."""
    return lambda _task: _with(_shipped().latents[:count], _shipped().labels[:count])


def bank_of_far_classes(task: Task) -> MemoryBank:
    """Its pictures of one kind that is unlike the task; it is smaller, too."""
    kind_of, bank = load_source().kind_of, _shipped()
    far = torch.tensor([kind_of.get(label) == FAR_KIND[task.name] for label in bank.labels.tolist()])
    return _with(bank.latents[far], bank.labels[far])


def bank_as_small(task: Task) -> MemoryBank:
    """Of all classes, as many pictures as `bank_of_far_classes` has: the control for its size."""
    return first_pictures(len(bank_of_far_classes(task)))(task)


def bank_of_noise(_task: Task) -> MemoryBank:
    """Noise in place of the pictures: what is left of the bank when it knows nothing of the source."""
    noise = torch.randn(_shipped().latents.shape, generator=seeded_generator(0, "bank of noise", 0))
    return _with(noise, _shipped().labels)


def bank_of_real_pictures(_task: Task) -> MemoryBank:
    """Real pictures of the source, in the bank's classes and order, in place of those that the model has drawn."""
    return _real()


@functools.cache
def _real() -> MemoryBank:
    source, labels = load_source(), _shipped().labels
    latents, places = encode_latents(load_pretrained("tiny"), source, progress=False)["latents"], torch.empty_like(labels)
    for label in labels.unique():
        own, asked = (source.labels == label).nonzero().flatten(), (labels == label).nonzero().flatten()
        places[asked] = own[torch.arange(len(asked)) % len(own)]  # a class of too few repeats them
    return _with(latents[places], labels)


def bank_of_target_pictures(task: Task) -> MemoryBank:
    """The task's own pictures replayed like memories, up to as many as the bank has; what they are labelled plays no part under the null label."""
    latents = encode_latents(load_pretrained("tiny"), task, progress=False)["latents"][: len(_shipped())]
    return _with(latents, torch.zeros(len(latents), dtype=torch.int64))
