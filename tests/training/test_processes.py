"""Two processes train as one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.helpers import weights

PROCESS = """
import os, signal
from pathlib import Path
from tests.training.helpers import run, weights
folder, rank = Path(sys.argv[1]), os.environ["RANK"]
def interrupt(state):  # the main process alone is told to stop
    if state.step == 7:
        os.kill(os.getpid(), signal.SIGINT)
try:
    run(folder, callbacks=[interrupt], accumulation=2)
except KeyboardInterrupt as error:
    print(error)
state, history = run(folder, accumulation=2)
torch.save([weights(state.module), history["bank_loss"].tolist()], folder / f"result-{rank}.pt")
"""
IN_ORDER = """
import atexit, os, sys
def check():  # the first one registered runs last
    if torch.distributed.is_initialized():
        print("the process group is still there", file=sys.stderr, flush=True)
        os._exit(3)
atexit.register(check)
import torch
sys.path[:0] = {paths}
"""


def in_two_processes(program: str, folder: Path) -> list[str]:
    """Run a program as torchrun would, twice; what each process printed.  Both must leave their group before Python goes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tests = Path(__file__).parents[1]
    program = IN_ORDER.format(paths=[str(tests), str(tests.parent)]) + program
    launcher = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder)], env=os.environ | launcher | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, err) in zip(processes, said):
        assert process.returncode == 0, f"exit code {process.returncode}\n{out}\n{err}"
    return [out for out, _ in said]


@pytest.mark.slow
def test_two_processes_train_as_one_and_stop_together(tmp_path, straight):
    assert all("after step 7" in out for out in in_two_processes(PROCESS, tmp_path))
    (one, losses), (two, losses_2) = (torch.load(tmp_path / f"result-{rank}.pt") for rank in "01")
    assert torch.equal(one, two) and losses == losses_2
    assert torch.allclose(one, weights(straight[0].module), atol=1e-5)
    assert torch.allclose(torch.tensor(losses), torch.tensor(straight[1]["bank_loss"]).float(), rtol=1e-4)


FINE_TUNE = """
import os, time
from dataclasses import asdict
from pathlib import Path
import difftuning as dt
from small import *
folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
pretrained, task = small_pretrained(), small_task()
bank = MemoryBank.load(folder / "bank")
time.sleep(rank)  # the second process comes late
options = dict(folder=folder / "run", resume=False, progress=False)
tuned = dt.fine_tune(pretrained, task, bank, dt.DiffTuningConfig(steps=3, learning_rate=1e-3), **options)
assert dt.load_fine_tuned(folder / "run").model.fingerprint == tuned.model.fingerprint
for call, error in (
    (lambda: dt.fine_tune(pretrained, task, bank, dt.DiffTuningConfig(steps=3), **options), FileExistsError),
    (lambda: small_bank(pretrained, folder / "another"), ValueError),
):
    try:
        call()
    except error as caught:
        print(caught)
"""


@pytest.mark.slow
def test_two_processes_fine_tune_as_one_and_hear_of_each_others_errors(tmp_path):
    import difftuning as dt
    from small import small_bank, small_pretrained, small_task

    bank = small_bank(small_pretrained(), tmp_path / "bank")
    for out in in_two_processes(FINE_TUNE, tmp_path):
        assert "already holds a run" in out and "a bank is sampled by one process" in out
    config = dt.DiffTuningConfig(steps=3, learning_rate=1e-3)
    alone = dt.fine_tune(small_pretrained(), small_task(), bank, config, folder=tmp_path / "alone", progress=False)
    together = dt.load_fine_tuned(tmp_path / "run").model.denoiser
    torch.testing.assert_close(weights(together), weights(alone.model.denoiser), atol=1e-5, rtol=0)
