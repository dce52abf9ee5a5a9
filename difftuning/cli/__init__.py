"""`difftuning`, or `python -m difftuning`: the package's functions from a shell, nothing of its own.

Whatever needs torch is imported inside the commands, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import re
import sys
from typing import Sequence

from ..support.files import DamagedFileError
from . import commands
from .parser import build_parser

TOO_LITTLE_MEMORY = "out of memory: lower batch_size, raise accumulation (train) or take fewer pictures at a time"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it went well, 2 with one line on stderr if its input is at fault."""
    usage = ""
    try:
        options = vars(build_parser().parse_args(arguments))
        usage = options.pop("parser").format_usage()
        getattr(commands, options.pop("command"))(options)
        return 0
    except KeyboardInterrupt:
        print(
            "difftuning: interrupted; the same command goes on from the last checkpoint of training or a study, or the last whole shard of a bank, if there is one",
            file=sys.stderr,
        )
        return 130
    except Exception as error:
        if (message := _one_line(error)) is None:
            raise
        print(f"difftuning: {with_flags(message, usage)}", file=sys.stderr)
        return 2


def _one_line(error: Exception) -> str | None:
    """What is said of an error; None for a bug, which keeps its traceback."""
    by_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # of a GPU; of the machine
    if by_torch or isinstance(error, MemoryError):
        return TOO_LITTLE_MEMORY
    if isinstance(error, (ValueError, OSError, ImportError, FloatingPointError, DamagedFileError)):
        return " ".join(str(error).split()) or type(error).__name__
    return None


def with_flags(message: str, usage: str) -> str:
    """Python's arguments as this command's flags: "size=32" is "--size 32", "bank=None" is "no --bank"."""

    def flag(found: re.Match) -> str:
        name, value = f"--{found['name'].replace('_', '-')}", (found["value"] or "").strip("'\"")
        if not re.search(rf"{name}[ \]\n]", usage):
            return found[0]
        return f"no {name}" if value == "None" else f"{name} {value}".rstrip()

    return re.sub(r"""(?<![\w./=-])(?P<name>[a-z][a-z_]*)=(?P<value>'[^']*'|"[^"]*"|[\w.]*\w)?(?![\w/])""", flag, message)
