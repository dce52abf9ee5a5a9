"""A run's folder belongs to one run, once it has kept something, and to one process at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from difftuning.support.lock import LOCK
from difftuning.training.run import Run
from tests.training.helpers import CPU, contents, run

RECORD = {"learning_rate": 0.1, "steps": 10, "seed": 0}


def opened(folder, record=RECORD, **options) -> Run:
    return Run(folder, record, device=CPU, **options)


def keep(run: Run, step: int = 5) -> None:
    run.save(step, {"model": {"weight": torch.ones(2)}}, "step\n", keep=2)


@pytest.fixture
def begun(tmp_path) -> Path:
    """A folder with a run of five steps."""
    with opened(tmp_path / "run", resume=False) as run:
        keep(run)
    return tmp_path / "run"


def test_the_same_run_is_opened_again_and_what_may_differ_is_kept(begun):
    with opened(begun):
        pass
    with opened(begun, RECORD | {"steps": 20}, may_differ=("steps",)) as run:
        assert run.load()[0] == 5
        keep(run, 10)
    assert '"steps": 20' in (begun / "run.json").read_text(encoding="utf-8")
    assert sorted(path.name for path in begun.iterdir()) == ["checkpoints", "run.json"]


def test_another_configuration_is_refused_in_one_line_that_names_the_fields(begun):
    before = contents(begun)
    with pytest.raises(ValueError) as caught, opened(begun, {"learning_rate": 0.2, "steps": 10, "seed": 0, "extra": 1}):
        pass
    message = str(caught.value)
    assert "learning_rate was 0.1, is 0.2" in message and "extra was None, is 1" in message
    assert "seed" not in message and "\n" not in message
    assert contents(begun) == before


def test_fewer_steps_than_are_done_are_refused(begun):
    with (
        pytest.raises(ValueError, match="holds 5 steps already, more than steps=4"),
        opened(begun, RECORD | {"steps": 4}, may_differ=["steps"]),
    ):
        pass


def test_a_run_is_not_taken_up_again_without_resume(begun):
    with pytest.raises(FileExistsError, match="already holds a run"), opened(begun, resume=False):
        pass


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"mine")
    for folder in (tmp_path, tmp_path / "photo.png"):
        with pytest.raises(FileExistsError, match="holds something else"), opened(folder):
            pass
    assert contents(tmp_path) == {"photo.png": b"mine"}


def test_a_run_that_took_no_step_leaves_nothing(tmp_path):
    with pytest.raises(MemoryError), opened(tmp_path / "new" / "run"):
        raise MemoryError("before the first step")
    assert not (tmp_path / "new").exists()
    (tmp_path / ".DS_Store").write_bytes(b"")
    with pytest.raises(MemoryError), opened(tmp_path):
        raise MemoryError
    assert [path.name for path in tmp_path.iterdir()] == [".DS_Store"]


def test_a_record_without_a_step_claims_nothing(tmp_path):
    """As a run leaves it that was killed between its record and its first checkpoint, or before: another one may take the folder."""
    (tmp_path / "run.json").write_text('{"seed": 7}', encoding="utf-8")
    (tmp_path / "checkpoints").mkdir()
    with opened(tmp_path, resume=False) as run:
        keep(run)
    assert '"seed": 0' in (tmp_path / "run.json").read_text(encoding="utf-8")


def test_training_that_fails_at_its_first_step_leaves_the_folder_to_another_configuration(tmp_path, straight):
    def fail(state):
        raise MemoryError

    with pytest.raises(MemoryError):
        run(tmp_path / "run", record={"seed": 1}, callbacks=[fail])
    assert not (tmp_path / "run").exists()
    run(tmp_path / "run", record={"seed": 2}, steps=1)


HOLD = """
import sys, time
sys.path.insert(0, sys.argv[2])
from difftuning.support.lock import FolderLock
from pathlib import Path
lock = FolderLock(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_told_at_once_and_a_killed_one_is_in_nobodys_way(begun):
    root = Path(__file__).parents[2]
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(begun), str(root)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(BlockingIOError) as caught, opened(begun):
            pass
        assert str(caught.value) == (
            f"{begun} is in use by process {holder.pid} on {socket.gethostname()}; wait until it ends, or choose another folder"
        )
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (begun / LOCK).is_file()  # what it left is an unlocked file
        with opened(begun) as run:
            assert run.steps_done == 5
        assert not (begun / LOCK).exists()
    finally:
        holder.kill()


def test_two_runs_of_one_process_do_not_share_a_folder(begun):
    with opened(begun):
        with pytest.raises(BlockingIOError, match="another run of this very process"), opened(begun):
            pass
        with pytest.raises(BlockingIOError), opened(begun):  # the refused one has not unlocked it
            pass
    with opened(begun):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_neither_holds_nor_releases_the_lock(begun):
    with opened(begun) as run:
        child = os.fork()
        if child == 0:
            run.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        assert (begun / LOCK).is_file()


def test_where_the_file_system_has_no_locks_the_run_goes_on(begun, monkeypatch):
    import errno
    import fcntl

    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    with opened(begun) as run:
        assert run.steps_done == 5


def test_what_killed_writers_left_is_swept_at_the_next_start(begun, dead_process):
    ours, theirs, foreign = (
        begun / name
        for name in (
            f".difftuning-{dead_process}@{socket.gethostname()}-ab12", f".difftuning-{os.getpid()}@{socket.gethostname()}-cd34",
            ".difftuning-notes",
        )
    )  # fmt: skip
    for folder in (ours, theirs, foreign):
        folder.mkdir()
    with opened(begun):
        assert not ours.exists() and theirs.exists() and foreign.exists()
