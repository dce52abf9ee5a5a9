"""Annotators at paper scale: transformers' models of depth and segmentation, loaded when they are first asked for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..support.files import one_line
from .annotators import normals
from .pictures import to_pixels

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import Pipeline

MODEL_KINDS = {"segmentation": "image-segmentation", "depth": "depth-estimation", "normal": "depth-estimation"}  # transformers' tasks
RELIEF = 0.25  # of the side: how high the nearest point of an estimated depth stands above the farthest


def annotate_with_model(kind: str, images: Tensor, annotator: str) -> list[np.ndarray]:
    """Conditions in [0, 1], each (H, W) or (H, W, 3), of images (N, 3, H, W) in [-1, 1]."""
    model = _load(MODEL_KINDS[kind], annotator, images.device)
    pixels = to_pixels(images).permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, 3)
    pictures = _pictures(pixels)
    if kind == "segmentation":
        return [_regions(model, picture) for picture in pictures]
    depths = [_depth(model, picture) for picture in pictures]
    return depths if kind == "depth" else [normals(depth * RELIEF * min(depth.shape)) for depth in depths]


def _pictures(pixels: np.ndarray) -> list[Image]:
    from PIL import Image

    return [Image.fromarray(picture) for picture in pixels]


@functools.lru_cache(maxsize=2)
def _load(task: str, annotator: str, device: torch.device) -> Pipeline:
    try:
        from transformers import pipeline
    except ImportError as error:
        raise ImportError(f'annotator={annotator!r} needs transformers: pip install "difftuning[paper]"') from error
    try:
        return pipeline(task, model=annotator, device=device)
    except (OSError, ValueError) as error:  # many lines of it
        raise FileNotFoundError(
            f"no annotator {annotator!r} for {task}: give a folder or hub id of such a transformers model ({one_line(error)})"
        ) from error


def _depth(model: Pipeline, picture: Image) -> np.ndarray:
    """Estimated depth (H, W), the nearest point at 1 and the farthest at 0; a model that sees no difference gives 0 throughout."""
    predicted = model(picture)["predicted_depth"].float().cpu()
    predicted = predicted.reshape(1, 1, *predicted.shape[-2:])
    size = (picture.height, picture.width)
    if predicted.shape[2:] != size:
        predicted = F.interpolate(predicted, size, mode="bicubic", align_corners=False)
    low, high = predicted.min(), predicted.max()
    return ((predicted - low) / (high - low).clamp(min=1e-9))[0, 0].numpy()


def _regions(model: Pipeline, picture: Image) -> np.ndarray:
    """The classes' colours (H, W, 3); black where there is none."""
    colours = np.zeros((picture.height, picture.width, 3))
    for found in model(picture):
        colours[np.asarray(found["mask"]) > 0] = class_colour(model.model.config.label2id[found["label"]] + 1)
    return colours


def class_colour(number: int) -> tuple[float, float, float]:
    """The colour of class `number` in the map of PASCAL VOC's development kit: its bits, dealt to red, green and blue in turn."""
    colour = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            colour[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return tuple(value / 255 for value in colour)
