"""Settings as text: a configuration dataclass's fields as flags, TOML files, typed values; without torch."""

from __future__ import annotations

import ast
import difflib
import numbers
import sys
import tomllib
from dataclasses import MISSING, field, fields
from typing import Any, NamedTuple, Sequence, get_args

from .files import read_text
from .names import user_path


def setting(default: Any, help: str) -> Any:
    """A dataclass's field with a default, and a line for `--help`."""
    return field(default=default, metadata={"help": help})


class Setting(NamedTuple):
    """One field of a configuration class, as text."""

    annotation: str
    default: str | None  # None: it must be given
    help: str


def settings_of(config_class: type) -> dict[str, Setting]:
    """The fields of a configuration class by name."""
    return {
        each.name: Setting(
            _spelled_out(each.type, config_class), None if each.default is MISSING else str(each.default), each.metadata.get("help", "")
        )
        for each in fields(config_class)
    }


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
    number = isinstance(value, (int, float, str)) and not isinstance(value, bool)
    try:
        if kind == "int" and number and not isinstance(value, float):
            return int(value)
        if kind == "float" and number:
            return float(value)
    except ValueError:
        pass
    if kind == "bool" and isinstance(value, bool) or kind not in ("bool", "int", "float") and isinstance(value, str):
        return value
    wanted = {"bool": "true or false", "int": "a whole number", "float": "a number"}.get(kind, "text")
    raise ValueError(f"{name} must be {wanted}, got {value!r}")


def plain(name: str, annotation: str, value: object) -> object:
    """The value as Python's own number, so that it can be written down; ValueError where it is not of the annotated kind."""
    kind = annotation.removesuffix(" | None")
    if value is None and kind != annotation:
        return None
    is_bool = isinstance(value, bool)
    if kind == "int" and isinstance(value, numbers.Integral) and not is_bool:
        if not -(2**63) <= value < 2**64:  # the most that a seed can have
            raise ValueError(f"{name} must fit into 64 bits, got {value}")
        return int(value)
    if kind == "float" and isinstance(value, numbers.Real) and not is_bool:
        return float(value)
    if kind in ("int", "float") or (kind == "bool" and not is_bool):
        wanted = {"int": "a whole number", "float": "a number", "bool": "True or False"}[kind]
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return value
