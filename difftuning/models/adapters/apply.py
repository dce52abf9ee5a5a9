"""Adapters on and off a denoiser, merged into it, and how much they train."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from ...support.options import choose, with_options
from ...support.random import seeded_cpu
from ...support.surroundings import undisturbed
from . import options as adapters
from .lora import forget_peft
from .wrapping import replace_layer, unwrap, wrappers

Model = TypeVar("Model")  # a Pretrained, or a denoiser


@undisturbed
def apply_adapter(model: Model, name: str | adapters.Adapter, *, seed: int = 0, **options: Any) -> Model:
    """Put an adapter on a `Pretrained` or a denoiser, in place: what it trains requires a gradient, all else no more.

    `name` is one of "bitfit", "lora", "difffit", "adaptformer", "adaptformer_parallel" and "vpt" with its options
    (models/adapters/options.py: rank, depth, bottleneck, tokens, ...), or an object of those classes.  New weights are drawn
    by `seed`.  The output stays as it was but for VPT's tokens, which attention sees at once.

    Every adapter trains the label table, too: a task's classes stand in rows that the pre-trained model has never seen, and
    could not be told apart otherwise.  Without weight decay only those rows move that a batch names, the null row among them.
    """
    adapter = choose("adapter", name, adapters.ADAPTERS)
    if options:
        if not isinstance(name, str):
            raise ValueError(f"options go into the adapter where it is an object: got {name!r} and {', '.join(options)}")
        adapter = with_options(name, adapters.ADAPTERS, options)
    put_on(denoiser_of(model), adapter, seed)
    return model


def put_on(denoiser: nn.Module, adapter: adapters.Adapter, seed: int) -> None:
    """`apply_adapter` without its checks of names."""
    if adapter_of(denoiser) is not None:
        known = adapters.name_of(adapter_of(denoiser))
        merge = "merge it first, or " if all(hasattr(layer, "merge") for _, layer in wrappers(denoiser)) else ""
        raise ValueError(f"the model has an adapter already, {known}: {merge}take the model without")
    if adapters.name_of(adapter) is not None and getattr(denoiser, "takes_prompts", False):
        raise ValueError(f"{adapters.name_of(adapter)} goes onto a DiT; a text-to-image model learns by fine_tune_controlnet")
    before = dict(denoiser.named_parameters())
    denoiser.requires_grad_(False)
    with seeded_cpu(seed, "adapter"):
        adapter(denoiser)
    if denoiser.label_table is not None:
        denoiser.label_table.requires_grad_(True)
    if adapters.name_of(adapter) is not None:
        denoiser.adapter = adapter
        denoiser.before_adapter = {name: weight.detach().clone() for name, weight in before.items() if weight.requires_grad}
    elif dict(denoiser.named_parameters()).keys() != before.keys() and not getattr(adapter, "leaves_base", False):
        raise ValueError(
            f"{adapter!r} adds weights, which only an adapter with a line in ADAPTERS can: it must be made again from its name"
        )


def adapter_of(denoiser: nn.Module) -> Any:
    """The adapter that is on a denoiser, None where there is none."""
    return getattr(denoiser, "adapter", None)


def merge_adapter(model: Model) -> Model:
    """Write the adapter into the model's own weights, in place, and take it off: BitFit, LoRA and DiffFit can be.

    Afterwards the model is stock again (`save` gives what stock diffusers reads), with the same outputs up to rounding.
    """
    denoiser = denoiser_of(model)
    if adapter_of(denoiser) is None:
        raise ValueError("the model has no adapter to merge")
    layers = list(wrappers(denoiser))
    if any(not hasattr(layer, "merge") for _, layer in layers):
        raise ValueError(
            f"{adapters.name_of(denoiser.adapter)} is no change of weights that the model has: it cannot be merged, as LoRA, BitFit and DiffFit can; load it beside the model instead"
        )
    for name, layer in layers:
        layer.merge()
        replace_layer(denoiser, name, layer.base_layer)
    _forget(denoiser)
    return model


@torch.no_grad()
def without_adapter(denoiser: nn.Module) -> nn.Module:
    """A copy as it was before the adapter came, bit for bit: label table and biases included."""
    bare = copy.deepcopy(denoiser)
    unwrap(bare)
    weights = dict(bare.named_parameters())
    for name, tensor in bare.before_adapter.items():
        weights[name].copy_(tensor)
    _forget(bare)
    return bare


def _forget(denoiser: nn.Module) -> None:
    forget_peft(denoiser)
    denoiser.adapter, denoiser.before_adapter = None, {}
    denoiser.requires_grad_(True)


def parameter_share(denoiser: Any, *, num_classes: int | None = None) -> float:
    """Trained weights of a denoiser, or of a `Pretrained`'s, as a fraction of all; f"{100 * share:.2f} %" prints it as the papers' tables do.

    `num_classes` counts the label table as one of that many rows and the null row, in both numbers: the rows that a task
    trains.  (The published tables' figures come out so, at 101 classes.)  None counts the table as it is.
    """
    denoiser = denoiser_of(denoiser)
    counts = {name: (weight.numel(), weight.requires_grad) for name, weight in denoiser.named_parameters()}
    trained, total = sum(count for count, open in counts.values() if open), sum(count for count, _ in counts.values())
    if num_classes is not None:
        table = denoiser.label_table
        left_out = table.numel() - (num_classes + 1) * table.shape[1]
        trained, total = trained - left_out * table.requires_grad, total - left_out
    return trained / total


def denoiser_of(model: Any) -> nn.Module:
    """A `Pretrained`'s denoiser, or the denoiser that was given; TypeError where it is neither."""
    denoiser = getattr(model, "denoiser", model)
    if not isinstance(denoiser, nn.Module):
        part = "its .model" if hasattr(model, "model") else "what load_pretrained returns"
        raise TypeError(f"an adapter is on a Pretrained or a denoiser, not {model!r:.80}: pass {part}")
    return denoiser
