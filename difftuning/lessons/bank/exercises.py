"""The exercises of lesson 05: how often a bank's pictures come, a bank with every icon in it, and a control of one's own."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch

from ..exercises import Grade, compare, exercise, written

EXAMPLE = "in the figure of sizes a picture of the bank of 30 comes 160 times in 800 steps"
MISSED = "the table of the kinds shows what the shipped bank misses"
VISITS = [(1000, 32, 0.2, 400), (250, 64, 0.2, 1000), (5000, 32, 0.2, 24000), (40, 10, 0.25, 100)]  # size, batch, share, steps
# the kind of each label, and how many pictures: a small source, and one as large as ours
SOURCES = [
    (["icon", "letter", "icon", "photograph", "icon"], 6),
    (["photograph"] * 8 + ["icon"] * 304 + ["letter"] * 26 + ["collection"] * 19, 1000),
]


@exercise("bank visits")
def bank_visits(answer: Callable) -> Grade:
    """How often each bank picture is trained on, on average: its places in a batch are rounded down."""
    expected = torch.tensor([steps * int(batch * share) / size for size, batch, share, steps in VISITS], dtype=torch.float64)
    found = _answers(answer, VISITS)
    whole = torch.tensor([steps * batch * share / size for size, batch, share, steps in VISITS], dtype=torch.float64)
    graded = compare(found, expected, place=lambda n: "visits({}, {}, {}, {})".format(*VISITS[n]), separate=True)
    if not graded.passed and torch.allclose(torch.tensor(found, dtype=torch.float64), whole):
        return Grade(False, f"{graded.message}; a batch holds whole pictures only, and their number is rounded down")
    return graded if graded.passed else Grade(False, f"{graded.message}; {EXAMPLE}")


@exercise("every icon")
def every_icon(answer: Callable) -> Grade:
    """answer(kinds, size) -> int64 (size,): labels, places in the list `kinds`, in which every "icon" comes at least once, and every kind.

    How the rest is spent is the reader's decision; the grade counts it.
    """
    for kinds, size in SOURCES:
        found = answer(list(kinds), size)
        written(found)
        found = torch.as_tensor(found)
        if tuple(found.shape) != (size,):
            return Grade(False, f"for {size} pictures of {len(kinds)} classes the shape is {tuple(found.shape)}, it should be ({size},)")
        outside = found[(found < 0) | (found >= len(kinds))]
        if len(outside):
            return Grade(False, f"label {int(outside[0])} is none of {len(kinds)} classes, which are numbered from 0")
        often = torch.bincount(found.long(), minlength=len(kinds)).tolist()
        missing = [label for label, kind in enumerate(kinds) if kind == "icon" and not often[label]]
        if missing:
            return Grade(False, f"{len(missing)} icons are missing from {size} labels, {missing[0]} first; {MISSED}")
        counts = {kind: sum(count for own, count in zip(kinds, often) if own == kind) for kind in dict.fromkeys(kinds)}
        if empty := [kind for kind, count in counts.items() if not count]:
            return Grade(False, f"every icon is there, but no picture of the kind {empty[0]}: the model would forget these")
    return Grade(True, f"every icon is there; of {size:,} pictures " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))


@exercise("shuffled latents")
def shuffled_latents(answer: Callable) -> Grade:
    """answer(latents (N, C, h, w)) -> the same numbers of each latent, in another random order for each; a new tensor."""
    latents = torch.arange(5 * 4 * 3 * 3, dtype=torch.float32).reshape(5, 4, 3, 3)
    given = latents.clone()
    found = answer(given)
    written(found)
    if not torch.equal(given, latents):
        return Grade(False, "the latents that came in have changed: return new ones, or the bank is spoiled")
    found = torch.as_tensor(found)
    if found.shape != latents.shape:
        return Grade(False, f"the shape is {tuple(found.shape)}, it should be {tuple(latents.shape)}")
    if not torch.equal(found.flatten(1).sort(1).values, latents.flatten(1)):
        return Grade(False, "a latent does not hold its own numbers, each once: shuffle within each, and exchange nothing between them")
    orders = found.flatten(1) - latents.flatten(1)[:, :1]  # where each number came from
    if bool((orders == orders[0]).all()):
        return Grade(False, "all latents are in the same order" + (", the one that they had" if torch.equal(found, latents) else ""))
    return Grade(True, "each latent keeps its numbers, and its picture is gone")


def _answers(answer: Callable, cases: Sequence[tuple]) -> list[Any]:
    found = [answer(*case) for case in cases]
    written(*found)
    return found
