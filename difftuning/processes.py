"""Several processes of one run: the main one looks and writes, the others wait and hear how it went."""

from __future__ import annotations

import os
from typing import Callable

import torch


def count() -> int:
    """How many processes a launcher (torchrun, accelerate) has started for this run; 1 where nobody launched this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def is_main() -> bool:
    """Whether this process writes the files."""
    return count() == 1 or os.environ.get("RANK", "0") == "0"


def in_main_process(work: Callable[[], None], device: torch.device) -> None:
    """Do `work` in the main process while the others wait; what it raises is raised in all of them."""
    if count() == 1:
        work()
        return
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    outcome: list[Exception | None] = [None]
    if PartialState(cpu=device.type == "cpu").is_main_process:
        try:
            work()
        except Exception as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if outcome[0] is not None:
        raise outcome[0]
