"""Does a picture look like a garment?  Told by the real picture that is nearest to it, as the feature net sees them."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ...data.tasks import load_source, load_task
from ...evaluation.metrics import extract

GARMENTS = ("T-shirt", "trousers", "pullover", "dress", "coat", "shirt")
SHARES = {"nearly always": 2 / 3, "about half of the time": 1 / 3, "rarely": 0.0}  # the answer from this share on


def count_garments(images: Tensor, task_name: str) -> int:
    """How many images (N, 3, H, W) are nearest to a garment, of all held-out pictures of the source and of the task."""
    features, is_garment = _real_pictures(task_name)
    nearest = torch.cdist(extract(images).double(), features).argmin(dim=1)
    return int(is_garment[nearest].sum())


def how_often(count: int, of: int) -> str:
    """The share in words, one of SHARES."""
    return next(words for words, least in SHARES.items() if count >= least * of)


@functools.cache
def _real_pictures(task_name: str) -> tuple[Tensor, Tensor]:
    """Features of the real pictures, and which of them show a garment."""
    source, task = load_source("heldout"), load_task(task_name, split="validation")
    garments = torch.tensor([source.class_names[label] in GARMENTS for label in source.labels.tolist()] + [False] * len(task))
    return extract(torch.cat([source.images, task.images])).double(), garments
