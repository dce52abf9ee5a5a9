"""How many runs (seeds) stand behind a number, and what that is worth, in words."""

from __future__ import annotations

from typing import Iterable

from ..studies.gains import LEAST_SEEDS

CHANCE, INTERVALS = "a small difference may be chance", "bars and bands are 95 % intervals"


def seeds_note(counts: Iterable[int]) -> str:
    """A figure's footnote, from the number of seeds of each mean in it: "one run each", "1 to 3 seeds, 95 % intervals", ..."""
    least, most = _range(counts)
    if most == 1:
        return "one run each"
    return f"{_span(least, most)} seeds" + (", 95 % intervals" if most >= LEAST_SEEDS else "")


def runs(counts: Iterable[int]) -> str:
    """ "one run (seed)", "1 to 3 runs (seeds)", ..."""
    least, most = _range(counts)
    return "one run (seed)" if most == 1 else f"{_span(least, most)} runs (seeds)"


def trust(counts: Iterable[int]) -> str:
    """How far such means are to be trusted."""
    least, most = _range(counts)
    if most < LEAST_SEEDS:
        return CHANCE
    return INTERVALS if least >= LEAST_SEEDS else f"{INTERVALS}, and where there is none {CHANCE}"


def _range(counts: Iterable[int]) -> tuple[int, int]:
    counts = [int(count) for count in counts]
    return min(counts), max(counts)


def _span(least: int, most: int) -> str:
    return str(most) if least == most else f"{least} to {most}"
