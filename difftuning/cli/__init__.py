"""`difftuning`, or `python -m difftuning`: the package's functions from a shell, nothing of its own.

Whatever needs torch is imported inside the commands, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import re
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Sequence

from ..support.files import DamagedFileError
from . import commands
from .parser import build_parser

PACKAGE = Path(__file__).parents[1]
TOO_LITTLE_MEMORY = "out of memory: lower batch_size, raise accumulation (train) or take fewer pictures at a time"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it went well, 2 with one line on stderr if its input is at fault."""
    usage, given = "", list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = vars(build_parser().parse_args(given))
        usage = options.pop("parser").format_usage()
        with _warnings_in_a_line(usage, given):
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
        print(f"difftuning: {with_flags(message, usage, given)}", file=sys.stderr)
        return 2


@contextmanager
def _warnings_in_a_line(usage: str, given: Sequence[str]) -> Iterator[None]:
    """The package's warnings as its errors are said, without the line of code that they come from; those of others as usual."""
    usual = warnings.showwarning

    def show(message: Warning, category: type[Warning], filename: str, *place: Any) -> None:
        if category is UserWarning and Path(filename).is_relative_to(PACKAGE):
            print(f"difftuning: warning: {with_flags(' '.join(str(message).split()), usage, given)}", file=sys.stderr)
        else:
            usual(message, category, filename, *place)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _one_line(error: Exception) -> str | None:
    """What is said of an error; None for a bug, which keeps its traceback."""
    by_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # of a GPU; of the machine
    if by_torch or isinstance(error, MemoryError):
        return TOO_LITTLE_MEMORY
    if isinstance(error, (ValueError, OSError, ImportError, FloatingPointError, DamagedFileError)):
        return " ".join(str(error).split()) or type(error).__name__
    return None


def with_flags(message: str, usage: str, given: Sequence[str] = ()) -> str:
    """Python's arguments as this command's flags: "size=32" is "--size 32", "bank=None" is "no --bank", "bank_share" is "--bank-share".

    A word of the user's own, as in the `given` name of a folder, stays.
    """

    def flag(found: re.Match) -> str:
        name = f"--{(found['name'] or found['bare'] or '').replace('_', '-')}"
        if found["bare"] and any(found["bare"] in value for value in given if not value.startswith("--")):
            return found[0]
        if name == "--resume" and "--no-resume" in usage:
            return "the same without --no-resume"
        if not re.search(rf"{name}[ \]\n]", usage):
            return found[0]
        value = (found["value"] or "").strip("'\"")
        return f"no {name}" if value == "None" else f"{name} {value}".rstrip()

    made = r"\w+\([^()]*\)"  # an object as Python shows it, such as LoRA(rank=4), is left as it is
    argument = r"""(?P<name>[a-z][a-z_]*)=(?P<value>'[^']*'|"[^"]*"|[\w.]*\w)?(?![\w/])"""
    bare = r"(?P<bare>[a-z]+(?:_[a-z]+)+)(?![\w/=.(])"
    return re.sub(rf"""(?<![\w./\\='"-])(?:{made}|{argument}|{bare})""", flag, message)
