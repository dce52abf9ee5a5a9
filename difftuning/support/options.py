"""A choice that is a name out of a table, or a function of the user's own."""

from __future__ import annotations

import difflib
import re
from dataclasses import fields, replace
from typing import Any, Callable, Iterable, Mapping


def require_choice(role: str, given: object, choices: Iterable, otherwise: str = "") -> None:
    """ValueError where `given` is none of the choices, which it names, the nearest one last."""
    if given not in (choices := list(choices)):
        near = difflib.get_close_matches(str(given), map(str, choices), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown {role} {given!r}: choose one of {', '.join(map(str, choices))}{otherwise}{hint}")


def choose(role: str, given: str | Callable | None, table: Mapping[str, Callable]) -> Callable | None:
    """The function that `given` names or is; ValueError names the choices."""
    if isinstance(given, type):
        raise ValueError(f"{role} must be an object, not the class {given.__name__}: pass {given.__name__}()")
    if given is None or callable(given):
        return given
    require_choice(role, given, table, ", or pass a function")
    return table[given]


def with_options(name: str, table: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """The table's dataclass of that name with some options other than its defaults; ValueError names what it has."""
    known = [each.name for each in fields(table[name])]
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}: it has {', '.join(known) or 'none'}")
    return replace(table[name], **options)


def describe(given: str | Callable) -> str:
    """How a run's record names the choice: an object by what it says of itself, a function by its name.

    Nothing in it may depend on where in memory something lies, or no later process would find its run again.
    """
    if isinstance(given, str):
        return given
    name = getattr(given, "__qualname__", None)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(given)) if name is None else f"{given.__module__}.{name}"
