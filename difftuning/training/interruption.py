"""Being stopped without losing work: SIGINT and SIGTERM wait for the step in hand."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Callable, Iterator


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, the first SIGINT or SIGTERM only raises a flag: a half-done step must not reach a checkpoint."""
    raised = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield raised.is_set  # signals reach the main thread alone
        return
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    def restore(*_) -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(*_) -> None:
        raised.set()
        restore()

    for number in previous:
        signal.signal(number, note)
    try:
        yield raised.is_set
    finally:
        restore()
