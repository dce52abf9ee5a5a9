"""A choice that is a name out of a table, or a function of the user's own."""

from __future__ import annotations

import difflib
from typing import Callable, Mapping


def choose(role: str, given: str | Callable | None, table: Mapping[str, Callable]) -> Callable | None:
    """The function that `given` names or is; ValueError names the choices."""
    if given is None or callable(given):
        return given
    if given not in table:
        near = difflib.get_close_matches(str(given), table, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown {role} {given!r}: choose one of {', '.join(table)}, or pass a function{hint}")
    return table[given]


def describe(given: str | Callable) -> str:
    """How a run's record names the choice: an object by what it says of itself, a function by its name."""
    if isinstance(given, str):
        return given
    name = getattr(given, "__qualname__", None)
    return repr(given) if name is None else f"{given.__module__}.{name}"
