"""The exercises of lesson 04: the bank's labels, how often its pictures come, what repair costs."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch

from ..exercises import Grade, compare, exercise, written

VISITS = [(1000, 32, 0.2, 400), (250, 64, 0.2, 1000), (5000, 32, 0.2, 24000), (40, 10, 0.25, 100)]  # size, batch, share, steps
DAMAGE = [(1000, 250, [3, 7, 249]), (1000, 250, [0, 250, 999]), (120, 20, []), (130, 20, [119, 120, 129]), (7, 1, [6, 6, 2])]


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


@exercise("shards to sample again")
def shards_to_sample_again(answer: Callable) -> Grade:
    """How many files repair has to sample again, where some pictures' bytes are damaged."""
    expected = torch.tensor([len({picture // shard for picture in damaged}) for _, shard, damaged in DAMAGE], dtype=torch.float64)
    found = _answers(answer, DAMAGE)
    return compare(found, expected, place=lambda n: "shards({}, {}, {})".format(*DAMAGE[n]), separate=True)


def _answers(answer: Callable, cases: Sequence[tuple]) -> list[Any]:
    found = [answer(*case) for case in cases]
    written(*found)
    return found
