"""Batches drawn in threads before the loop asks for them: on a fast device a small model's step takes less time than its random numbers.

A step's draws depend on (seed, stream, step) alone, so that drawn early, late or twice they are the same bits.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor

from .objective import Draw, Stream

Value = TypeVar("Value")


class StreamAhead(Stream):
    """A `Stream` that draws its next steps in threads and has them on `device` before they are asked for.

    `ahead` steps are under way at any time, in `threads` threads.  `waited` counts the seconds that `draw` has had to
    wait: near nothing where the threads keep up.
    """

    def __init__(self, stream: Stream, device: torch.device, *, ahead: int = 8, threads: int = 4):
        super().__init__(**{each.name: getattr(stream, each.name) for each in fields(stream) if each.init})
        self.device, self.ahead, self.waited = device, ahead, 0.0
        self._drawn: dict[tuple[int, int], Future[Draw]] = {}
        self._one_at_a_time = Lock()
        # One core each: threads that split their tiny sums among all cores would wait for one another.
        self._threads = ThreadPoolExecutor(threads, "draws", initializer=partial(torch.set_num_threads, 1))

    def draw(self, seed: int, step: int) -> Draw:
        """What the stream itself draws at that step, on the device."""
        began = time.perf_counter()
        wanted = [(seed, number) for number in range(step, step + self.ahead + 1)]
        self._drawn = {key: self._drawn.get(key) or self._threads.submit(self._draw, *key) for key in wanted}
        draw = self._drawn[seed, step].result()  # kept: a batch that is cut into parts asks once for each
        self.waited += time.perf_counter() - began
        return draw

    def _draw(self, seed: int, step: int) -> Draw:
        draw = super().draw(seed, step)
        return Draw(**{each.name: _moved(getattr(draw, each.name), self.device) for each in fields(draw)})

    def _order(self, seed: int, epoch: int) -> Tensor:
        with self._one_at_a_time:  # the threads share the last orders
            return super()._order(seed, epoch)


def _moved(value: Value, device: torch.device) -> Value:
    """A tensor, or a dictionary of tensors, on the device; from pinned memory, so that no thread waits for the device's work in hand."""
    if isinstance(value, dict):
        return {name: _moved(each, device) for name, each in value.items()}
    if not isinstance(value, Tensor):
        return value
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)
