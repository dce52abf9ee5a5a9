"""Layers around which an adapter has put something, and how they get out again.

peft's layers call what they surround `base_layer`, and merge themselves into it by `merge()`.  Ours do the same, so that one
function takes all of them off.
"""

from __future__ import annotations

from typing import Iterator

from torch import nn


class Wrapper(nn.Module):
    """A layer with something around it.  A subclass that can write itself into the layer's own weights has `merge()`."""

    def __init__(self, base_layer: nn.Module):
        super().__init__()
        self.base_layer = base_layer


def wrappers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and layer of everything that an adapter has put around something, peft's layers included."""
    return ((name, layer) for name, layer in module.named_modules() if isinstance(getattr(layer, "base_layer", None), nn.Module))


def replace_layer(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Put another module in the place that a dotted name says."""
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, layer)


def unwrap(module: nn.Module) -> None:
    """Put every wrapped layer back in its place."""
    for name, layer in list(wrappers(module)):
        replace_layer(module, name, layer.base_layer)
