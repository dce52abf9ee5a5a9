"""What a model is told to draw: rows of its label table, names, or prompts."""

from __future__ import annotations

import difflib
import numbers
from typing import Sequence

import torch
from torch import Tensor

from ..models.pretrained import Pretrained
from ..support.names import one_form
from ..support.surroundings import undisturbed

NAMED = 12  # names of a model in a message


@undisturbed
def label_rows(model: Pretrained, labels: Tensor | Sequence[int] | Sequence[str]) -> Tensor:
    """Labels as int64 rows (N,) of the model's table; names are looked up in `label_names`."""
    if isinstance(labels, (str, numbers.Integral)):
        labels = [labels]
    if isinstance(labels, Sequence) and any(isinstance(label, str) for label in labels):
        names = [one_form(name) for name in model.label_names]
        unknown = [label for label in labels if isinstance(label, str) and one_form(label) not in names]
        if unknown:
            raise ValueError(f"unknown label {unknown[0]!r}: {_known(model.label_names, one_form(unknown[0]), names)}")
        labels = [names.index(one_form(label)) if isinstance(label, str) else label for label in labels]
    try:
        rows = torch.as_tensor(labels).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"labels are whole numbers or names, one for each picture, got {labels!r:.80}") from None
    if rows.numel() and (rows.dtype.is_floating_point or rows.dtype.is_complex or rows.dtype == torch.bool):
        raise ValueError(f"labels are whole numbers or names, got {rows.flatten()[0].item()}")
    if rows.ndim > 1:
        raise ValueError(f"labels are one for each picture, (N,), got shape {tuple(rows.shape)}")
    rows = rows.reshape(-1).long()
    outside = rows[(rows < 0) | (rows > model.null_label)]
    if len(outside):
        raise ValueError(f"label {int(outside[0])} is outside 0..{model.null_label} (the null label)")
    return rows


def _known(label_names: Sequence[str], given: str, names: Sequence[str]) -> str:
    """What to say of a model's names to someone who asked for another: all of a few, and the nearest."""
    near = difflib.get_close_matches(given, names, n=1)
    hint = f"; did you mean {label_names[names.index(near[0])]!r}?" if near else ""
    few, more = ", ".join(label_names[:NAMED]), len(label_names) - NAMED
    return f"this model's {len(label_names)} names (label_names) are {few}{f' and {more} more' if more > 0 else ''}{hint}"


def require_prompts(model: Pretrained, prompts: str | Sequence[str]) -> list[str]:
    """Prompts as a list; ValueError where they are none."""
    try:
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    except TypeError:  # None, a number
        prompts = [prompts]
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise ValueError(f"{model.name} is told what to draw by prompts, got {prompt!r:.60}: give a list of sentences")
    return prompts


def prompts_as_conditions(model: Pretrained, prompts: Tensor | Sequence[str]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Null labels (N,), the prompts' embeddings as conditions, the empty prompt's as those of the branch that guides.

    The null label, too, stands for the empty prompt.
    """
    if isinstance(prompts, Tensor) and bool((prompts == model.null_label).all()):
        prompts = [""] * len(prompts)
    prompts = require_prompts(model, prompts)
    embed = model.denoiser.embed
    return torch.full((len(prompts),), model.null_label), {"text": embed(prompts)}, {"text": embed([""])[0]}
