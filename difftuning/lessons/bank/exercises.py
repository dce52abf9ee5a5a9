"""The exercises of lesson 05: the bank's labels, how often its pictures come, and a bank with all classes in it."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch

from ..exercises import Grade, compare, exercise, written

VISITS = [(1000, 32, 0.2, 400), (250, 64, 0.2, 1000), (5000, 32, 0.2, 24000), (40, 10, 0.25, 100)]  # size, batch, share, steps
BANKS = [(5, 20), (357, 1000), (357, 100), (10, 7)]  # classes, size


@exercise("bank labels")
def bank_labels(answer: Callable) -> Grade:
    """The labels that bank pictures train under, of the labels they were sampled under and the null label's row."""
    sampled = torch.tensor([4, 0, 2, 2, 336])
    for null_label in (1000, 337):
        found = answer(sampled.clone(), null_label)
        graded = compare(found, torch.full_like(sampled, null_label), place="picture {}".format)
        if not graded.passed:
            if torch.equal(torch.as_tensor(found), sampled):
                return Grade(False, "these are the labels the pictures were sampled under; the target does not have those classes")
            return Grade(False, f"with null label {null_label}: {graded.message}")
    return graded


@exercise("bank visits")
def bank_visits(answer: Callable) -> Grade:
    """How often each bank picture is trained on, on average: its places in a batch are rounded down."""
    expected = torch.tensor([steps * int(batch * share) / size for size, batch, share, steps in VISITS], dtype=torch.float64)
    found = _answers(answer, VISITS)
    whole = torch.tensor([steps * batch * share / size for size, batch, share, steps in VISITS], dtype=torch.float64)
    graded = compare(found, expected, place=lambda n: "visits({}, {}, {}, {})".format(*VISITS[n]), separate=True)
    if not graded.passed and torch.allclose(torch.tensor(found, dtype=torch.float64), whole):
        return Grade(False, f"{graded.message}; a batch holds whole pictures only, and their number is rounded down")
    return graded


@exercise("equal shares")
def equal_shares(answer: Callable) -> Grade:
    """answer(classes, size) -> int64 (size,): labels in which every class comes as often as any other, or once more."""
    for classes, size in BANKS:
        found = answer(classes, size)
        written(found)
        found = torch.as_tensor(found)
        if tuple(found.shape) != (size,):
            return Grade(False, f"for {size} pictures of {classes} classes the shape is {tuple(found.shape)}, it should be ({size},)")
        outside = found[(found < 0) | (found >= classes)]
        if len(outside):
            return Grade(False, f"label {int(outside[0])} is none of {classes} classes, which are numbered from 0")
        counts = torch.bincount(found.long(), minlength=classes)
        if int(counts.max() - counts.min()) > 1:
            often, seldom = int(counts.argmax()), int(counts.argmin())
            return Grade(False, f"of {size} pictures, class {often} has {int(counts[often])} and class {seldom} has {int(counts[seldom])}")
    return Grade(True, "exact")


def _answers(answer: Callable, cases: Sequence[tuple]) -> list[Any]:
    found = [answer(*case) for case in cases]
    written(*found)
    return found
