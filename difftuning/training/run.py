"""A run's folder: whose it is, who works in it now, and how far it has come."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import torch
from torch import Tensor

from ..support import processes
from ..support.files import is_ours, read_json, write_json
from ..support.lock import FolderLock
from ..support.names import user_path
from .checkpoints import Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint, steps_done

RECORD = "run.json"


class Run:
    """The folder of one training run, described by `record`, for as long as a `with` block lasts.

    In the block the folder is locked: a second process is told so at once.  Of several processes of one run the main one does
    this for all.  The record is written with the first checkpoint: a run that saved none does not block the folder, and what it left there is ignored.

    On entry FileExistsError says that the folder holds something else, or a run where `resume` is False; ValueError that it
    holds a run of another record, apart from the fields of `may_differ`; BlockingIOError that it is in use.  Nothing is changed then.
    """

    def __init__(self, folder: str | Path, record: dict, *, device: torch.device, resume: bool = True, may_differ: Sequence[str] = ()):
        self.folder, self.record, self.device = user_path(folder), record, device
        self._resume, self._may_differ = resume, may_differ
        self._lock: FolderLock | None = None

    def __enter__(self) -> Run:
        processes.in_main_process(self._open, self.device)
        return self

    def __exit__(self, *_) -> None:
        if self._lock is not None:
            self._lock.release()

    def _open(self) -> None:
        self._check()  # before anything is touched
        self._lock = FolderLock(self.folder)
        try:
            self._check()  # another process may have been here in between
        except BaseException:
            self._lock.release()
            raise

    def _check(self) -> None:
        if not is_ours(self.folder, RECORD) or not self._has_begun():
            return
        if not self._resume:
            raise FileExistsError(f"{self.folder} already holds a run: resume=True continues it, or choose another folder")
        stored = read_json(self.folder / RECORD)
        fields = [name for name in sorted({*stored, *self.record}) if name not in self._may_differ]
        different = [f"{n} was {stored.get(n)!r}, is {self.record.get(n)!r}" for n in fields if stored.get(n) != self.record.get(n)]
        if different:
            raise ValueError(f"{self.folder} holds a run with another configuration ({'; '.join(different)}); choose another folder")
        if (done := self.steps_done) > (steps := self.record.get("steps", done)):
            raise ValueError(f"{self.folder} holds {done} steps already, more than steps={steps}; choose another folder")

    def _has_begun(self) -> bool:
        """Whether there is anything beside the record: a checkpoint, a result."""
        others = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")} - {RECORD, "checkpoints"}
        return bool(others or list_checkpoints(self.folder))

    @property
    def steps_done(self) -> int:
        """The step of the newest checkpoint, 0 where there is none."""
        return steps_done(self.folder)

    def checkpoints_to_come(self, keep: int) -> int:
        """How many more of them will stand at the same time, at most; one more than is kept stands while writing."""
        return max(keep + 1 - len(list_checkpoints(self.folder)), 1)

    def load(self) -> Checkpoint | None:
        """The newest checkpoint, None where there is none."""
        return load_checkpoint(self.folder)

    def save(self, step: int, tensors: dict[str, dict[str, Tensor]], history: str, *, keep: int) -> None:
        """Keep a checkpoint, and first of all the record."""
        path = self.folder / RECORD
        if not path.is_file() or read_json(path) != self.record:
            write_json(path, self.record)
        save_checkpoint(self.folder, step, tensors, history, keep=keep)
