"""Stage 1: what is installed, and whether three steps of `fine_tune` have the losses on the card that they have on the CPU."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import difftuning as dt
from difftuning.data.tasks import spread_evenly
from paper_scale.measurements import Table

PACKAGES = ("torch", "diffusers", "accelerate", "numpy", "pandas", "safetensors", "huggingface_hub")
# Of a loss.  All draws are the CPU's: what differs is rounding, of TF32 in the autoencoder's convolutions and of bf16 everywhere.
TOLERANCE = {"no": 0.01, "bf16": 0.05}


@dataclass(frozen=True)
class Sizes:
    pictures: int = 64
    steps: int = 3


FULL = Sizes()
TOY = Sizes(pictures=40)


def run(sizes: Sizes, device: torch.device, table: Table, out: Path) -> None:
    table.add("Python", platform.python_version())
    for package in PACKAGES:
        table.add(package, importlib.metadata.version(package))
    table.add("CPU cores", os.cpu_count())
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        table.add("card", card.name)
        table.add("memory", card.total_memory / 2**30, "GiB")
        table.add("compute capability", f"{card.major}.{card.minor}")
        table.add("CUDA", torch.version.cuda)
    differences = compare_with_cpu(sizes, device)
    for precision, difference in differences.items():
        table.add(f"largest difference of a loss from the CPU's, precision {precision!r}", 100 * difference, "%")
    for precision, difference in differences.items():
        if not difference <= TOLERANCE[precision]:
            raise RuntimeError(
                f"on {device} with mixed_precision={precision!r} a loss is {difference:.2%} from the CPU's, more than {TOLERANCE[precision]:.0%}"
            )


def compare_with_cpu(sizes: Sizes, device: torch.device) -> dict[str, float]:
    """For each precision, the largest relative difference of a step's loss from the same steps' on the CPU."""
    task = dt.load_task("digits")
    task = task.subset(spread_evenly(len(task), sizes.pictures))

    with tempfile.TemporaryDirectory() as scratch:
        bank = dt.MemoryBank.sample(dt.load_pretrained("tiny"), 12, folder=Path(scratch) / "bank", steps=2)

        def losses(place: torch.device, precision: str) -> torch.Tensor:
            config = dt.DiffTuningConfig(steps=sizes.steps, mixed_precision=precision)
            model, folder = dt.load_pretrained("tiny", device=place), Path(scratch) / f"{place.type}-{precision}"
            history = dt.fine_tune(model, task, bank, config, folder=folder, progress=False).history
            return torch.tensor(history[["target_loss", "bank_loss"]].values)

        expected = losses(torch.device("cpu"), "no")
        return {precision: float((losses(device, precision) / expected - 1).abs().max()) for precision in TOLERANCE}
