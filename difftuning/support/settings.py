"""Settings as text: a configuration dataclass's fields as flags, TOML files, typed values; without torch."""

from __future__ import annotations

import ast
import difflib
import numbers
import sys
import tomllib
from contextlib import suppress
from dataclasses import MISSING, field, fields
from typing import Any, NamedTuple, Sequence, get_args

from .files import read_text
from .names import user_path
from .options import require_choice

COUNT, POSITIVE, AMOUNT, SHARE, FRACTION = "[1, inf)", "(0, inf)", "[0, inf)", "[0, 1)", "[0, 1]"  # intervals for `require_within`


def setting(default: Any = MISSING, help: str = "", within: str = "") -> Any:
    """A dataclass's field: its default if it has one, a line for `--help`, the interval that its numbers lie in.

    A subclass may give another default alone: `help` and `within` stay.
    """
    return field(default=default, metadata={key: text for key, text in (("help", help), ("within", within)) if text})


class Setting(NamedTuple):
    """One field of a configuration class, as text."""

    annotation: str
    default: str | None  # None: it must be given
    help: str


def settings_of(config_class: type) -> dict[str, Setting]:
    """The fields of a configuration class by name."""
    return {
        each.name: Setting(
            _spelled_out(each.type, config_class),
            None if each.default is MISSING else str(each.default),
            _note(config_class, each.name, "help"),
        )
        for each in fields(config_class)
    }


def _note(config_class: type, name: str, key: str) -> str:
    """What the nearest class that notes something of a field has noted."""
    fields_of = [vars(kind).get("__dataclass_fields__", {}) for kind in config_class.__mro__]
    return next((own[name].metadata[key] for own in fields_of if name in own and key in own[name].metadata), "")


def _spelled_out(annotation: str, config_class: type) -> str:
    """The name of a Literal (Family) as the Literal itself."""
    choices = get_args(getattr(sys.modules[config_class.__module__], annotation, None))
    return f"Literal[{', '.join(map(repr, choices))}]" if choices else annotation


def metavar(annotation: str) -> str:
    """What `--help` shows for a value: N, X, the choices of a Literal, or NAME."""
    kind = annotation.removesuffix(" | None")
    if kind.startswith("Literal["):
        return "{" + ",".join(ast.literal_eval(kind.removeprefix("Literal"))) + "}"
    return {"int": "N", "float": "X"}.get(kind, "NAME")


def gather(flags: dict[str, Any], options: Sequence[str], settings: dict[str, Setting]) -> tuple[dict[str, str], dict[str, Any]]:
    """Options (texts) and settings (each of its type), from the file named by `config` and from the flags, which win."""
    values = _read_config(flags.get("config"), [*options, *settings]) | flags
    needed = [name for name in ("task", "folder") if name in options]
    needed += [name for name, setting in settings.items() if setting.default is None]
    for name in needed:
        if name not in values:
            raise ValueError(f"--{name} is needed, as a flag or in the --config file")
    texts = {name: typed(name, "str", values[name]) for name in options if name in values}
    return texts, {name: typed(name, setting.annotation, values[name]) for name, setting in settings.items() if name in values}


def _read_config(path: str | None, known: Sequence[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = tomllib.loads(read_text(user_path(path)))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML file: {error}") from error
    values = {name.replace("-", "_"): value for name, value in values.items()}  # as flags are written
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"{path} has the unknown setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return values


def typed(name: str, annotation: str, value: Any) -> Any:
    """A flag's text or a TOML value as the annotated type; ValueError names the setting."""
    kind = annotation.removesuffix(" | None")
    if kind != annotation and value == "none":
        return None
    if kind in ("int", "float") and isinstance(value, str):
        with suppress(ValueError):
            return {"int": int, "float": float}[kind](value)
    return plain(name, annotation, value)


def plain(name: str, annotation: str, value: object) -> object:
    """The value as Python's own number, so that it can be written down; ValueError where it is not of the annotated kind."""
    kind = annotation.removesuffix(" | None")
    if value is None and kind != annotation:
        return None
    if kind.startswith("Literal["):
        require_choice(name, value, ast.literal_eval(kind.removeprefix("Literal")))
    is_bool = isinstance(value, bool)
    whole = isinstance(value, numbers.Integral) and not is_bool
    right = {
        "int": whole and -(2**63) <= value < 2**64,  # the most that a seed can have
        "float": isinstance(value, numbers.Real) and not is_bool,
        "bool": is_bool,
        "str": isinstance(value, str),
    }
    if not right.get(kind, True):
        wanted = {"int": "be a whole number", "float": "be a number", "bool": "be true or false", "str": "be text"}[kind]
        raise ValueError(f"{name} must {'fit into 64 bits' if kind == 'int' and whole else wanted}, got {value!r}")
    return {"int": int, "float": float}.get(kind, lambda same: same)(value)


def require_within(name: str, value: float, interval: str) -> None:
    """ValueError where a number is outside an interval such as "[0, 1)"; NaN is outside of each, infinity of those below "inf"."""
    low, high = map(float, interval[1:-1].split(","))
    above = low <= value if interval[0] == "[" else low < value
    if not above or not (value <= high if interval[-1] == "]" else value < high):
        least = f"{'at least' if interval[0] == '[' else 'more than'} {low:g}"
        most = f"{'at most' if interval[-1] == ']' else 'less than'} {high:g}"
        bounds = "finite" if value == float("inf") else least if high == float("inf") else f"{least} and {most}"
        raise ValueError(f"{name} must be {bounds}, got {value}")


def check_settings(config: Any) -> None:
    """A frozen dataclass's values become Python's own; ValueError where one is not of its type, its choices or its interval."""
    for each in fields(config):
        value = plain(each.name, _spelled_out(each.type, type(config)), getattr(config, each.name))
        if value is not None and (interval := _note(type(config), each.name, "within")):
            require_within(each.name, value, interval)
        object.__setattr__(config, each.name, value)
