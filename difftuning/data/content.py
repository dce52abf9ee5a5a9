"""What picture files hold, told by their bytes: a copy elsewhere is the same set, a file changed in place is another."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Sequence

from ..support.files import DamagedFileError, read_json, sha256, write_json
from ..support.names import cache_folder

LARGE = 10**9  # bytes; hashing takes about a second for each half of that, and is remembered
SETTLED = 2.0  # seconds after which a file's time of change tells a further change apart


def content_digests(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of each file.  Of a large set they are kept in the cache's folder pictures/.

    There a file counts as the same while its size, inode and both times are.  The time of the last change of a file's
    status (ctime) is the system's own: no program can set it back, as `touch` and archives do with the other one.
    """
    stats = [path.stat() for path in paths]
    if os.name != "posix" or sum(stat.st_size for stat in stats) < LARGE:
        return [sha256(path) for path in paths]
    places = sha256(*(f"{path.absolute()}\n" for path in paths))
    kept_in = cache_folder() / "pictures" / f"{places[:32]}.json"
    known = _read(kept_in)
    now, marks = time.time(), [f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}" for stat in stats]
    digests = [known.get(mark) or sha256(path) for path, mark in zip(paths, marks)]
    with suppress(OSError):  # a full or read-only home folder
        settled = {mark: digest for mark, digest, stat in zip(marks, digests, stats) if now - stat.st_ctime > SETTLED}
        write_json(kept_in, settled, sealed=True)
    return digests


def _read(path: Path) -> dict[str, str]:
    try:
        return read_json(path)
    except (DamagedFileError, OSError):  # it only saves time
        return {}
