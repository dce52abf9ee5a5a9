"""Condition pictures for ControlNet: edge, sketch, segmentation, depth and normal, found in the pictures themselves.

A picture and its condition are what a ControlNet is trained on; of a sample, the condition
that is found in it says whether it obeys the one that was asked for (evaluation/agreement.py).
"""

from __future__ import annotations

import functools
import os
from typing import Callable, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..support.names import user_path
from ..support.options import require_choice
from ..support.surroundings import undisturbed
from . import annotators
from .annotator_models import MODEL_KINDS, annotate_with_model
from .cache import made_once
from .pictures import require_pictures, require_range
from .tasks import Task

Kind = Literal["edge", "sketch", "segmentation", "depth", "normal"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SMALLEST_SIDE = 8  # pixels; what blurs reach of less is mostly border
LUMINANCE = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
VERSION = 1  # of the tiny annotators: raise it when what they draw changes, so that no cached picture is of the old ones

TINY_ANNOTATORS: dict[Kind, Callable[[np.ndarray], np.ndarray]] = {
    "edge": annotators.edges,
    "sketch": annotators.sketch,
    "segmentation": annotators.segments,
    "depth": annotators.depth,
    "normal": lambda grey: annotators.normals(annotators.relief(grey)),
}


@undisturbed
def annotate(kind: Kind, images: Tensor, *, annotator: str | os.PathLike | None = None) -> Tensor:
    """Condition pictures (N, 3, H, W), float32 in [0, 1] (ControlNet's range), of images (N, 3, H, W) in [-1, 1].

    | kind | tiny annotator | drawn as |
    |---|---|---|
    | edge | Canny | thin white lines |
    | sketch | thinned difference of Gaussians | soft white lines, one along a stroke |
    | segmentation | the object, split by Otsu where it has two tones | black ground, grey and white parts |
    | depth | distance to the object's outline | near is bright, the ground black |
    | normal | that distance's slope | n = (right, up, to the viewer) as RGB (n + 1) / 2 |

    Depth and normal of a flat picture are those of a pillow in the object's outline: an object
    is what differs from the tone of the picture's border.  They say where the object is and how
    thick, nothing of its shape in space.  Without an object depth is 0 and every normal faces
    the viewer.  Depth is relative: its highest point is 1 in every picture.

    `annotator`, the folder or hub id of a transformers model, takes the tiny one's place: depth
    ("Intel/dpt-large"; a model that gives near as large), normal (the slope of that depth, a
    quarter of the side high), segmentation (colours of PASCAL VOC's map, by class; black where
    there is none).  It is loaded at the first call, onto the images' device; transformers is
    in the extra "paper".

    Values are multiples of 1/255, so that picture files and the cache keep them unchanged.
    On the images' device.
    Raises ValueError for an unknown kind, images of another shape or range, an annotator for a
    kind that has none; FileNotFoundError where no such model is found.
    """
    _require_kind(kind, annotator)
    require_pictures("images", images)
    require_range("images", images)
    if min(images.shape[2:]) < SMALLEST_SIDE:
        raise ValueError(f"images must be {SMALLEST_SIDE} pixels high and wide or more, got {tuple(images.shape)}: enlarge them")
    if annotator is not None:
        found = annotate_with_model(kind, images, os.fspath(user_path(annotator)))
    else:
        weights = torch.tensor(LUMINANCE, dtype=torch.float64).reshape(1, 3, 1, 1)
        grey = ((images.detach().cpu().double() + 1) / 2 * weights).sum(1).clamp(0, 1).numpy()  # (N, H, W)
        found = [TINY_ANNOTATORS[kind](picture) for picture in grey]
    pictures = torch.empty(images.shape, dtype=torch.float32)
    for picture, condition in zip(pictures, found):  # (H, W) or (H, W, 3)
        picture[...] = torch.from_numpy(np.atleast_3d(condition)).permute(2, 0, 1)
    return ((pictures * 255).round() / 255).to(images.device)


@undisturbed
def annotate_task(kind: Kind, task: Task, *, annotator: str | os.PathLike | None = None, device: str | torch.device = "cpu",
                  cache: str | os.PathLike | None = None, batch_size: int = 64, progress: bool = True) -> dict[str, Tensor]:  # fmt: skip
    """The condition of every picture: {"conditions": (N, 3, H, W)}, and "mirrored" where the task allows flips.

    8-bit numbers (uint8, on the CPU), as photographs would fill the memory four times over
    otherwise: `conditions[chosen].float() / 255` is what `annotate` gives for those pictures.
    "mirrored" is found in the mirror images: a mirrored normal faces the other side.  Kept as
    latents are (cache.py); what an `annotator` finds is always kept, under its name or path: empty the
    cache when other weights come under the same name.  `device` is where the annotator runs.

    Raises what `annotate` raises, and OSError where the cache has no space or cannot be written.
    """
    _require_kind(kind, annotator)
    if annotator is not None and user_path(annotator).is_dir():
        annotator = user_path(annotator).resolve()
    find = functools.partial(annotate, kind, annotator=annotator)
    return made_once(
        task,
        lambda images: (find(images.to(device)) * 255).round().to(torch.uint8),
        name="conditions",
        key=f"{kind} {annotator or f'tiny {VERSION}'}",
        doing=f"finding the {kind} of",
        cache=cache,
        batch_size=batch_size,
        progress=progress,
        slow=annotator is not None,
    )


def _require_kind(kind: Kind, annotator: str | os.PathLike | None) -> None:
    require_choice("condition", kind, KINDS)
    if annotator is not None and kind not in MODEL_KINDS:
        raise ValueError(f"no annotator {os.fspath(annotator)!r} for {kind}: models are for {', '.join(MODEL_KINDS)}; leave annotator out")
