"""The study "adapters": what training few weights does, and what Diff-Tuning does on top, each in two words.

New samples are judged by their Frechet distance, on average over sets and both ways of guidance, old pictures by the share of the
other's rise in their held-out loss that is avoided, on average over sets.
"""

from __future__ import annotations

from typing import NamedTuple

from ...studies.methods import ADAPTED
from ..parts import BETTER, MIXED, WORSE, Parts, new_samples, old_pictures
from .variants import FULL

ENDING = " + Diff-Tuning"
NAMES = [method for method in ADAPTED if not method.endswith(ENDING)]
LEAST_RISE = 0.05  # of the loss on old pictures: a smaller one counts as this
HELPED, TRADE, UNCHANGED, HARMED = "helped", "a trade", "no difference", "harmed"


def pair(name: str) -> tuple[str, str]:
    """What the tables call an adapter alone, and with Diff-Tuning; the same for all weights."""
    return ("plain", "Diff-Tuning") if name == FULL else (name, name + ENDING)


def measured(parts: Parts) -> list[str]:
    """The adapters of which the tables hold both, in every set."""
    held = set.intersection(*({*zip(table.task, table.method)} for table in parts[:2]))
    return [name for name in NAMES if all((task, method) in held for task in parts.tasks for method in pair(name))]


class Compared(NamedTuple):
    """A method beside another: is it better or worse in new samples, in old pictures?  (`mean_in_a_word`)"""

    new: str
    old: str

    @property
    def verdict(self) -> str:
        """Helped: one side is better and neither is worse.  Harmed: the reverse.  A trade: both."""
        gains, losses = (any(word in (found, MIXED) for word in self) for found in (BETTER, WORSE))
        return {(True, False): HELPED, (True, True): TRADE, (False, False): UNCHANGED, (False, True): HARMED}[gains, losses]


def compared(parts: Parts, method: str, other: str) -> Compared:
    """New samples and old pictures of one method beside another's."""
    return Compared(new_samples(parts, method, other), old_pictures(parts, method, other, LEAST_RISE))


def beside_full(parts: Parts, name: str) -> Compared:
    """An adapter alone beside plain fine-tuning of all weights."""
    return compared(parts, name, "plain")


def with_diff_tuning(parts: Parts, name: str) -> Compared:
    """An adapter, or all weights, with Diff-Tuning beside the same without."""
    alone, tuned = pair(name)
    return compared(parts, tuned, alone)


def less(word: str) -> bool:
    """Is that a loss: worse on average, or in some comparisons?"""
    return word in (WORSE, MIXED)
