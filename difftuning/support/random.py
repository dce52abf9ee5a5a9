"""Draws that depend on a seed and a purpose alone, whatever was drawn before."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import Iterator

import torch


def seeded_generator(seed: int, purpose: str, index: int) -> torch.Generator:
    """A CPU generator whose draws depend on these three alone."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextmanager
def initialised_by(seed: int) -> Iterator[None]:
    """New modules' weights depend on the seed alone inside; outside nothing changes, on GPUs neither (`torch.manual_seed` seeds them, too)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def seeded_cpu(seed: int, purpose: str) -> Iterator[None]:
    """torch's own draws on the CPU, as initialisers make them, depend on these alone inside; outside nothing changes."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(seeded_generator(seed, purpose, 0).get_state())
        yield
