"""Was a function given the kind of object that it works on?  Where not, one line says what to pass."""

from __future__ import annotations

import os
from typing import Mapping


def require_kind(role: str, value: object, kind: type, loader: str | None = None) -> None:
    """TypeError where `value` is no `kind`; `loader` names the function that makes one of a name or a path, if there is one."""
    if isinstance(value, kind):
        return
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    part = next((name for name, inner in getattr(value, "__dict__", {}).items() if isinstance(inner, kind)), None)
    if part is not None:  # the whole was given where a part of it is meant, as a tuned result for its model
        advice = f"its .{part}"
    elif loader is None:
        advice = f"{kind.__name__}(**{role})" if isinstance(value, Mapping) else f"a {kind.__name__}(...)"
    else:
        advice = f"what {loader} returns" if text is None else f"{loader}({text!r})"
    shown = type(value).__name__ if text is None else repr(text)
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    raise TypeError(f"{role} must be {article} {kind.__name__}, not {shown}: pass {advice}")
