"""How fast the tiny DiT trains here: the first steps of the loop, timed, decide on the batch and on compiled blocks."""

from __future__ import annotations

import copy
import signal
import statistics
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import Iterator

from torch import nn

from difftuning.config import PretrainingConfig
from difftuning.models.pretrained import Pretrained
from difftuning.training.checkpoints import copy_into, trainable
from difftuning.training.draw_ahead import StreamAhead
from difftuning.training.loop import train
from difftuning.training.objective import Objective, Stream
from paper_scale.measurements import Table

DRAWS = 5
COMPILE_SECONDS = 75  # a third of the time box; a compiler that needs more is not worth it


class Clock:
    """Seconds spent and left of a time box that begins now."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds
        self.seconds = seconds

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    @property
    def spent(self) -> float:
        return self.seconds - self.left


def choose_speed(model: Pretrained, stream: Stream, config: PretrainingConfig, *, batches: tuple[int, ...], compiled_batch: int,
                 steps: int, backend: str, table: Table) -> tuple[int, float]:  # fmt: skip
    """The batch to train with and the seconds that its step takes; `model`'s blocks are compiled where that is chosen.

    `steps` are timed of each of `batches`, and of `compiled_batch` with compiled blocks.  The weights stay what they were.
    """
    drawing = seconds_per_draw(replace(stream, batch=batches[0]))
    table.add(f"drawing a batch of {batches[0]:,} in one thread", 1000 * drawing, "ms")
    seconds = {(batch, False): seconds_per_step(model, stream, config, batch, steps) for batch in batches}
    began = time.monotonic()
    try:
        compile_blocks(model.denoiser, backend)
        with at_most(COMPILE_SECONDS):
            seconds[compiled_batch, True] = seconds_per_step(model, stream, config, compiled_batch, steps)
        table.add("compiling took", time.monotonic() - began - steps * seconds[compiled_batch, True], "s")
    except Exception as error:  # of the compiler, which has many; the model trains without it
        table.add("blocks compiled", f"not used: {type(error).__name__}: {str(error)[:300]}")
    for (batch, compiled), each in seconds.items():
        what = f"batch of {batch:,}{', blocks compiled' if compiled else ''}"
        table.add(what, 1000 * each, "ms a step")
        table.add(what, batch / each, "pictures/s")
    batch, compiled = max(seconds, key=lambda choice: progress_rate(choice[0], seconds[choice]))
    if not compiled:
        model.denoiser = copy.deepcopy(model.denoiser)  # a copy is not compiled
    table.add("chosen", f"a batch of {batch:,}, blocks {'compiled' if compiled else 'as they are'}")
    return batch, seconds[batch, compiled]


def progress_rate(batch: int, seconds: float) -> float:
    """How far training gets in a second, up to a factor.

    With the square root of the batch: between large batches, of which only the number of steps counts, and small ones, of which only
    the number of pictures does.
    """
    return batch**0.5 / seconds


def seconds_per_step(model: Pretrained, stream: Stream, config: PretrainingConfig, batch: int, steps: int) -> float:
    """Median time from one step's end to the next one's over the second half of `steps` steps of the loop."""
    before = {name: weight.detach().clone() for name, weight in trainable(model.denoiser).items()}
    ends: list[float] = []
    config = replace(config, steps=steps, batch_size=batch, warmup_steps=steps)
    objective = Objective([StreamAhead(replace(stream, batch=batch), model.device)], model.diffusion, config.seed)
    try:
        train(
            model.denoiser, objective, config, run=None, device=model.device, progress=False,
            callbacks=[lambda _: ends.append(time.perf_counter())],
        )  # fmt: skip
    finally:
        copy_into(trainable(model.denoiser), before)
    half = ends[steps // 2 :]
    return statistics.median(later - earlier for earlier, later in zip(half, half[1:]))


def seconds_per_draw(stream: Stream) -> float:
    """What the stream's random numbers and pictures of one step cost the CPU."""
    began = time.perf_counter()
    for step in range(DRAWS):
        stream.draw(0, step)
    return (time.perf_counter() - began) / DRAWS


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """TimeoutError in what takes longer; no limit where the system has no alarms (Windows)."""

    def ring(*_) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def compile_blocks(denoiser: nn.Module, backend: str) -> None:
    """Compile each transformer block: they share their code, so that the compiler sees little of it, and few kernels remain to start."""
    for block in denoiser.transformer.transformer_blocks:
        block.compile(backend=backend)
