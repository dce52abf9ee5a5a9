"""One line says what to pass in place of what was given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from difftuning.support.kinds import require_kind


@dataclass
class Thing:
    size: int


@pytest.mark.parametrize(
    ("given", "loader", "said"),
    [
        ("digits", "load_thing", "thing must be a Thing, not 'digits': pass load_thing('digits')"),
        (Path("a/b"), "load_thing", "thing must be a Thing, not 'a/b': pass load_thing('a/b')"),
        (None, "load_thing", "thing must be a Thing, not NoneType: pass what load_thing returns"),
        ({"size": 1}, "load_thing", "thing must be a Thing, not dict: pass what load_thing returns"),
        (SimpleNamespace(inner=Thing(1)), "load_thing", "thing must be a Thing, not SimpleNamespace: pass its .inner"),
        ({"size": 1}, None, "thing must be a Thing, not dict: pass Thing(**thing)"),
        ("run.toml", None, "thing must be a Thing, not 'run.toml': pass a Thing(...)"),
    ],
)
def test_what_to_pass_is_said(given, loader, said):
    with pytest.raises(TypeError) as error:
        require_kind("thing", given, Thing, loader)
    assert str(error.value) == said


def test_the_right_kind_passes():
    require_kind("thing", Thing(1), Thing)
