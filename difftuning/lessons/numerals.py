"""Counts in words, for sentences that are written from tables."""

from __future__ import annotations

from typing import Iterable

NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def numeral(count: int) -> str:
    """ "two"; beyond ten, digits."""
    return NUMBERS[count] if count < len(NUMBERS) else f"{count:,}"


def all_of(some: int, every: int) -> str:
    """ "all five", "two", "none"."""
    return f"all {numeral(every)}" if some == every > 1 else numeral(some)


def out_of(some: int, every: int, things: str) -> str:
    """ "all five sets", "two of the five sets", "none of the five sets", "the one set"; `things` in the plural."""
    if some == every:
        return f"{all_of(some, every)} {things}" if every > 1 else f"the one {things.removesuffix('s')}"
    return f"{numeral(some)} of the {numeral(every)} {things}"


def listed(names: Iterable[str | int]) -> str:
    """\"50, 200 and 1,000\", "footwear and digits", "none"."""
    words = [name if isinstance(name, str) else f"{name:,}" for name in names]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]])) or NUMBERS[0]
