"""One command, run in this process."""

from __future__ import annotations

from difftuning import cli


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()
