"""What a caller has set for all of torch has no say here: default precision and device, gradient mode, autocast."""

from __future__ import annotations

import functools
import threading
from contextlib import ExitStack
from typing import Callable, ParamSpec, TypeVar

import torch

Arguments, Result = ParamSpec("Arguments"), TypeVar("Result")
_here = threading.local()  # .inside: whether this thread is in such a function already


def undisturbed(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function under torch's own settings, so that it gives the same bits wherever it is called.

    That is float32 on the CPU by default, gradients on (they are switched off where none are wanted), no autocast.  Only the
    outermost call sets them: what our own code switches on further in, such as a run's mixed precision, stays on.
    """

    @functools.wraps(function)
    def under_own_settings(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if getattr(_here, "inside", False):
            return function(*args, **kwargs)
        with ExitStack() as stack:
            _here.inside = True
            stack.callback(setattr, _here, "inside", False)
            _settle(stack)
            return function(*args, **kwargs)

    return under_own_settings


def _settle(stack: ExitStack) -> None:
    """Undo until the stack ends what is set otherwise; what is as it should be is left alone, as some of this slows every operation."""
    if (precision := torch.get_default_dtype()) != torch.float32:
        torch.set_default_dtype(torch.float32)
        stack.callback(torch.set_default_dtype, precision)
    if torch.get_default_device().type != "cpu":
        stack.enter_context(torch.device("cpu"))
    if torch.is_inference_mode_enabled():
        stack.enter_context(torch.inference_mode(False))
    if not torch.is_grad_enabled():
        stack.enter_context(torch.enable_grad())
    for device in ("cpu", "cuda", "mps"):
        if torch.is_autocast_enabled(device):
            stack.enter_context(torch.autocast(device, enabled=False))
