"""What a training costs, worked out before it is run: operations, and with them time; bytes, and with them the card."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ...models.dit import DiT
from ..adapters.variants import FULL, with_adapter
from ..memory import Memory, dit_xl, training_memory

PAPER_STEPS, PAPER_BATCH = 24_000, 32
LORA = "LoRA, rank 8"
BACKWARD = 2  # times the forward pass: a layer's gradient of its inputs, and that of its weights
# Of its peak, what a card does when a transformer is trained.  The paper's authors: 30,000 steps of DiT-XL/2 in 1.56 h of an H100, an eighth.
USED = (0.1, 0.5)
ROOM = 1.1  # times what is counted: the libraries' own buffers, and gaps between tensors
GB = 10**9
AUTOENCODER = 4 * 83_653_863  # bytes of sd-vae-ft-ema's weights
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30.4 * 86_400, "year": 365 * 86_400}
LONG = ("minutes", "hours", "days", "weeks", "months or more")  # answers to "how long?"


class Card(NamedTuple):
    """A graphics card, by its maker's data sheet."""

    name: str
    operations: float  # a second at most: half precision on tensor cores, no sparsity
    memory: int  # GB


CARDS = (Card("T4", 65e12, 16), Card("RTX 4090", 165e12, 24), Card("A100", 312e12, 40), Card("H100", 989e12, 80))


def forward_operations(denoiser: DiT) -> int:
    """Multiplications and additions of one forward pass over one picture; nothing is computed for a denoiser on the meta device."""
    device = denoiser.label_table.device
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    # by attention's formula: the counter does not know the CPU's fused kernel
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        denoiser(torch.zeros(1, *denoiser.latent_shape, device=device), zero, zero)
    return counter.get_total_flops()


def training_operations(denoiser: DiT, pictures: int) -> int:
    """Of training all weights on so many pictures, counted once for each time that one is shown."""
    return (1 + BACKWARD) * forward_operations(denoiser) * pictures


@functools.cache
def paper_operations(steps: int = PAPER_STEPS, pixels: int = 256) -> int:
    """Of so many steps of DiT-XL/2 with the paper's batch."""
    return training_operations(dit_xl(pixels), steps * PAPER_BATCH)


@functools.cache
def paper_memory(trained: str = FULL, pixels: int = 256) -> Memory:
    """What `fine_tune` needs to train all weights of DiT-XL/2, or an adapter, on one picture at a time.

    The weights are there twice where all are trained: the untouched model stays beside its copy, and an adapter shares them.
    The autoencoder stays, too.
    """
    one = training_memory(with_adapter(dit_xl(pixels), trained), 1)
    return one._replace(weights=one.weights * (2 if trained == FULL else 1) + AUTOENCODER)


def at_a_time(one: Memory, pictures: int) -> Memory:
    """The same for more pictures in one pass: activations alone grow with them."""
    return one._replace(activations=pictures * one.activations)


def smallest_card(memory: Memory) -> int | None:
    """The least memory (GB) of `CARDS` that is enough, with some room; None where none is."""
    return min((card.memory for card in CARDS if card.memory * GB >= ROOM * memory.total), default=None)


def duration(seconds: float) -> str:
    """ "40 minutes", "1.5 hours", "2 years"."""
    count, unit = _in_units(seconds)
    return f"{count:g} {unit}{'s' * (count != 1)}"


def span(least: float, most: float) -> str:
    """From one time to another, in seconds: "18 to 46 minutes", "58 minutes to 2 hours"."""
    (few, unit), (_, other) = _in_units(least), _in_units(most)
    return f"{f'{few:g}' if unit == other else duration(least)} to {duration(most)}"


def _in_units(seconds: float) -> tuple[float, str]:
    """How many of the largest unit of which there are one and a half at least; in halves below five."""
    unit = max((name for name, size in UNITS.items() if seconds >= 1.5 * size), key=UNITS.__getitem__, default="second")
    count = seconds / UNITS[unit]
    return (round(2 * count) / 2 if count < 5 else round(count)), unit


def long(seconds: float) -> str:
    """Which of `LONG` that is."""
    _, unit = _in_units(seconds)
    return {"second": LONG[0], "month": LONG[-1], "year": LONG[-1]}.get(unit, f"{unit}s")


def times(work: float) -> dict[str, tuple[float, float]]:
    """Card -> the least and the most seconds that so many operations take on it."""
    return {card.name: (work / (USED[1] * card.operations), work / (USED[0] * card.operations)) for card in CARDS}
