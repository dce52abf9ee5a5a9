"""Several processes of one run: the main one looks and writes, the others wait and hear how it went."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Iterator

import torch

if TYPE_CHECKING:
    from accelerate import PartialState

# What every launcher (torchrun, accelerate) tells a process; some of them alone are what an earlier one has left behind.
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
FROM_LAUNCHERS = (*LAUNCHED, "LOCAL_WORLD_SIZE", "ACCELERATE_", "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_")


def count() -> int:
    """How many processes a launcher has started for this run; 1 where nobody launched this one."""
    if not all(os.environ.get(name) for name in LAUNCHED) or _is_notebook():
        return 1
    return int(os.environ["WORLD_SIZE"])


def local_rank() -> int:
    """This process's number among those on its machine, which is its GPU's."""
    return int(os.environ["LOCAL_RANK"]) if count() > 1 else 0


def _is_notebook() -> bool:
    """Whether this is a notebook's own process, which no launcher starts; those that it starts itself are its children."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None and multiprocessing.parent_process() is None


@contextmanager
def as_launched() -> Iterator[None]:
    """Inside, what launchers have left in the environment is not seen, unless one has started this process."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(FROM_LAUNCHERS)} if count() == 1 else {}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def join(device: torch.device) -> PartialState:
    """This process's place among those of the run; their group ends with the program."""
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")
    # Gloo's threads crash a process that takes Python down around them: now and then, and without a word.
    atexit.unregister(_leave)
    atexit.register(_leave)
    return state


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def in_main_process(work: Callable[[], None], device: torch.device) -> None:
    """Do `work` in the main process while the others wait; what it raises is raised in all of them."""
    if count() == 1:
        work()
        return
    from accelerate.utils import broadcast_object_list

    outcome: list[Exception | None] = [None]
    if join(device).is_main_process:
        try:
            work()
        except Exception as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if outcome[0] is not None:
        raise outcome[0]
