"""Every `difftuning` command that the texts show is one that the parser takes, with its placeholders as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import nbformat
import pytest

from difftuning.cli.parser import build_parser

ROOT = Path(__file__).resolve().parents[2]
FENCED, INLINE = re.compile(r"```(?:bash|sh)\n(.*?)```", re.DOTALL), re.compile(r"`(difftuning [a-z_]+ [^`]+)`")


def _texts() -> list[str]:
    notebooks = [path for path in sorted((ROOT / "notebooks").rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    cells = [cell for path in notebooks for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "data").rglob("README.md"), *(ROOT / "notebooks").glob("*.md")]
    return [path.read_text(encoding="utf-8") for path in files] + [cell.source for cell in cells]


def _commands() -> list[str]:
    lines = []
    for text in _texts():
        for block in FENCED.findall(text):
            lines += [line for line in block.replace("\\\n", " ").splitlines() if re.match(r"\S*difftuning ", line.strip())]
        lines += INLINE.findall(text)
    return sorted({line.strip() for line in lines})


def test_there_are_commands():
    assert any("sample" in command for command in _commands()) and len(_commands()) > 10


@pytest.mark.parametrize("command", _commands())
def test_a_command_that_is_shown_can_be_given(command):
    build_parser().parse_args(shlex.split(command, comments=True)[1:])
