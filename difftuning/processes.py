"""Several processes of one run: the main one looks and writes, the others wait and hear how it went."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Callable

import torch

if TYPE_CHECKING:
    from accelerate import PartialState


def count() -> int:
    """How many processes a launcher (torchrun, accelerate) has started for this run; 1 where nobody launched this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def is_main() -> bool:
    """Whether this process writes the files."""
    return count() == 1 or os.environ.get("RANK", "0") == "0"


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
