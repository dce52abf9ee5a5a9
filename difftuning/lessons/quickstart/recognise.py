"""Does a picture look like a garment?  Told by the real picture that is nearest to it, as the feature net sees them."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ...data.tasks import load_source, load_task
from ...evaluation.metrics import extract

GARMENTS = ("T-shirt", "trousers", "pullover", "dress", "coat", "shirt")
ANSWERS = {"0 to 5": 5, "6 to 10": 10, "11 to 15": 15, "16 to 20": 20}  # of twenty pictures, up to so many


def are_garments(images: Tensor, task_name: str) -> list[bool]:
    """Which of images (N, 3, H, W) are nearest to a garment, of all held-out pictures of the source and of the task."""
    features, is_garment = _real_pictures(task_name)
    nearest = torch.cdist(extract(images).double(), features).argmin(dim=1)
    return is_garment[nearest].tolist()


def count_garments(images: Tensor, task_name: str) -> int:
    """How many of them."""
    return sum(are_garments(images, task_name))


def answer(count: int) -> str:
    """The one of `ANSWERS` that a count of twenty falls into."""
    return next(words for words, most in ANSWERS.items() if count <= most)


@functools.cache
def _real_pictures(task_name: str) -> tuple[Tensor, Tensor]:
    """Features of the real pictures, and which of them show a garment."""
    source, task = load_source("heldout"), load_task(task_name, split="validation")
    garments = torch.tensor([source.class_names[label] in GARMENTS for label in source.labels.tolist()] + [False] * len(task))
    return extract(torch.cat([source.images, task.images])).double(), garments
