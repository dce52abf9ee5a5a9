"""One process at a time works in a folder; a second one is told so at once."""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

from .files import sweep

LOCK = ".difftuning.lock"
_held: set[tuple[int, Path]] = set()  # (process, folder): the system's own locks do not tell threads of one process apart
_holding = threading.Lock()


class FolderLock:
    """A lock on `folder`, made if need be, until the `with` block, `release` or the process ends, however it does.

    The lock is the system's, on the file `LOCK`, which says for people who holds it: what a killed process leaves
    behind is an unlocked file.  BlockingIOError where another process works in the folder.
    """

    def __init__(self, folder: Path):
        self._made = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
        self._path, self._key = folder / LOCK, (os.getpid(), folder.resolve())
        with _holding:
            if self._key in _held:
                raise BlockingIOError(_in_use(folder, "another run of this very process"))
            try:
                self._file = self._acquire(folder)
            except BaseException:
                self._leave_no_folder()
                raise
            _held.add(self._key)
        sweep(folder)

    def _acquire(self, folder: Path) -> int:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # another process has just removed the folder that it had made
                continue
            if not _lock(file):
                holder = os.read(file, 300).decode(errors="replace").strip()
                os.close(file)
                raise BlockingIOError(_in_use(folder, holder or "another process"))
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(self._path)):
                    break
            os.close(file)  # whoever had it before has removed it between our two steps: once more
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        return file

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def release(self) -> None:
        """Give the folder back, and remove it where nothing was kept in it."""
        with _holding:
            if self._key[0] != os.getpid() or self._key not in _held:  # a forked process has a copy of this object, not the lock
                return
            with suppress(OSError):  # Windows removes no file that is open: there an unlocked one stays
                os.unlink(self._path)
            os.close(self._file)
            _held.discard(self._key)
        self._leave_no_folder()

    def _leave_no_folder(self) -> None:
        with suppress(OSError):  # as soon as one is not empty
            for place in self._made:
                place.rmdir()


def _lock(file: int) -> bool:
    """Lock an open file, unless another process has; where the file system knows no locks (some network folders), nothing is held."""
    try:
        if os.name == "posix":
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            os.lseek(file, 2**20, os.SEEK_SET)  # a locked byte cannot be read: not one of the text's
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, 0, os.SEEK_SET)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def _in_use(folder: Path, holder: str) -> str:
    return f"{folder} is in use by {holder}; wait until it ends, or choose another folder"
