"""What a step costs: ratios and the achieved share of this machine's matrix-multiply peak.  `make bench`."""

from __future__ import annotations

import statistics
import time
from typing import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

import difftuning as dt
from difftuning.config import DiffTuningConfig
from difftuning.data.latents import encode_latents
from difftuning.support.world import data_folder
from difftuning.training.checkpoints import trainable
from difftuning.training.label_rows import choose_rows
from difftuning.training.objective import Objective
from difftuning.training.streams import split_batch, training_streams

ROUNDS, STEPS = 9, 6
LIMIT = 1.05  # a Diff-Tuning step may cost so many plain steps of the same batch


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def matmul_peak(size: int = 1536) -> float:
    """The best of several square float32 products, in FLOP/s."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(20))


def stepper(pretrained: dt.Pretrained, task: dt.Task, bank: dt.MemoryBank | None, config: DiffTuningConfig) -> Callable[[int], None]:
    """The loop's work for one step, without its bookkeeping: draws, forward, backward, AdamW."""
    rows = choose_rows(pretrained, len(task.class_names))
    streams = training_streams(pretrained, task, bank, config, rows, split_batch(config, bank))
    objective, model = Objective(streams, pretrained.diffusion, config.seed), pretrained.copy_denoiser().train()
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=config.learning_rate, weight_decay=0, fused=True)

    def step(number: int) -> None:
        objective.total(objective.losses(model, number, pretrained.device)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    pretrained, task = dt.load_pretrained("tiny"), dt.load_task("digits")
    bank = dt.MemoryBank.load(data_folder() / "bank")
    plain = stepper(pretrained, task, None, DiffTuningConfig(steps=1, reconsolidation_power=0))
    ours = stepper(pretrained, task, bank, DiffTuningConfig(steps=1))
    for step in (plain, ours):
        step(0)  # the optimizer's state is made in the first step
    ratios, times = [], []
    for number in range(ROUNDS):  # in turns, so that both see the same machine
        both = [seconds(lambda: [step(number * STEPS + i) for i in range(STEPS)]) / STEPS for step in (plain, ours)]
        ratios.append(both[1] / both[0])
        times.append(both[0])
    with FlopCounterMode(display=False) as counter:
        plain(0)
    peak, plain_seconds = matmul_peak(), statistics.median(times)
    encoding = seconds(lambda: encode_latents(pretrained, task))
    print(f"threads                                  {torch.get_num_threads()}")
    print(f"plain step, batch 32                     {1000 * plain_seconds:.0f} ms")
    print(f"Diff-Tuning step / plain step            {statistics.median(ratios):.3f}  (limit {LIMIT})")
    print(f"encoding the task once / one step        {encoding / plain_seconds:.1f}")
    print(f"share of the matrix-multiply peak        {counter.get_total_flops() / plain_seconds / peak:.0%} of {peak / 1e9:.0f} GFLOP/s")
    if statistics.median(ratios) > LIMIT:
        raise SystemExit("a Diff-Tuning step costs more than the limit; run it again on an idle machine")


if __name__ == "__main__":
    main()
