"""Captions of the tiny world: a class's name and words for what can be measured in the picture, such as "a small wide bright sneaker".

A text-to-image model is pre-trained on them and told them as prompts.  As every word stands for a number that is measured,
the same measurement in a sample says whether the model did what the words asked for.

The object is what differs from the tone of the picture's border by `CONTRAST`, its box the smallest upright rectangle around it.

| attribute | measured as | word below | word above |
|---|---|---|---|
| size | longer side of the box / side of the picture | small | large |
| shape | width / height of the box | tall | wide |
| fill | share of the box that the object covers | thin | solid |
| brightness | mean difference from the border's tone, black to white = 1 | dim | bright |
| tilt | cov(x, y) of the object's pixels, y upwards / the larger of var(x), var(y) | leaning left | leaning right |

Between the two thresholds of `ATTRIBUTES` there is no word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor

from .conditions import LUMINANCE
from .pictures import require_pictures, require_range

CONTRAST = 0.15  # of the range from black to white


@dataclass(frozen=True)
class Attribute:
    """A measured number, the word for pictures below `low` and the one for those above `high`."""

    low: float
    low_word: str
    high: float
    high_word: str

    def word(self, value: float) -> str | None:
        """The word for a measured number; None between the two thresholds, and for nan."""
        return self.low_word if value < self.low else self.high_word if value > self.high else None


# In the order in which the words stand in a caption; what leans stands behind the name.
ATTRIBUTES = {
    "size": Attribute(0.6, "small", 0.85, "large"),
    "shape": Attribute(0.75, "tall", 1.3, "wide"),
    "fill": Attribute(0.35, "thin", 0.65, "solid"),
    "brightness": Attribute(0.5, "dim", 0.75, "bright"),
    "tilt": Attribute(-0.15, "leaning left", 0.15, "leaning right"),
}
_OF_WORD = {word: name for name, attribute in ATTRIBUTES.items() for word in (attribute.low_word, attribute.high_word)}


def measure_attributes(images: Tensor) -> dict[str, Tensor]:
    """Each attribute's number for images (N, 3, H, W) in [-1, 1]: {name: float32 (N,)}, nan where there is no object.  ValueError for another shape or range."""
    require_pictures("images", images)
    require_range("images", images)
    grey = ((images.cpu().float() + 1) / 2 * torch.tensor(LUMINANCE).reshape(3, 1, 1)).sum(1)  # (N, H, W)
    border = torch.cat([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], dim=1)
    difference = (grey - border.median(1).values[:, None, None]).abs()
    inside = difference > CONTRAST
    pixels = inside.sum((1, 2)).float()  # 0 makes every number below nan
    pixels[pixels == 0] = float("nan")

    def mean(values: Tensor) -> Tensor:
        return (values * inside).sum((1, 2)) / pixels

    height, width = _extent(inside.any(2)), _extent(inside.any(1))
    x, y = torch.arange(grey.shape[2]).expand(grey.shape), torch.arange(grey.shape[1])[:, None].expand(grey.shape)
    right, up = x - mean(x)[:, None, None], mean(y)[:, None, None] - y
    spread = torch.maximum(mean(right.nan_to_num() ** 2), mean(up.nan_to_num() ** 2))
    return {
        "size": torch.maximum(width, height) / max(grey.shape[1:]) + 0 * pixels,
        "shape": width / height,
        "fill": pixels / (width * height),
        "brightness": mean(difference),
        "tilt": mean((right * up).nan_to_num()) / spread.clamp(min=1e-6),  # a single pixel leans nowhere
    }


def attribute_words(images: Tensor) -> list[list[str]]:
    """The words that are true of each picture, in a caption's order."""
    measured = measure_attributes(images)
    found = [{name: attribute.word(float(measured[name][i])) for name, attribute in ATTRIBUTES.items()} for i in range(len(images))]
    return [[word for word in words.values() if word] for words in found]


def caption_pictures(images: Tensor, class_names: Sequence[str]) -> list[str]:
    """A caption for each of the images (N, 3, H, W) in [-1, 1], from its class's name and its attributes; the same pictures get the same captions."""
    return [_caption(name, words) for name, words in zip(class_names, attribute_words(images), strict=True)]


@dataclass(frozen=True)
class CaptionAs:
    """`caption_pictures` that calls every picture by one name: for classes whose own names the model was never told."""

    name: str

    def __call__(self, images: Tensor, class_names: Sequence[str]) -> list[str]:
        return caption_pictures(images, [self.name] * len(class_names))


def name_pictures(images: Tensor, class_names: Sequence[str]) -> list[str]:
    """Captions without attributes, for pictures that are not one object on an even ground: "a sneaker"."""
    return [_caption(name, []) for name in class_names]


CAPTIONS = {"measured": caption_pictures, "names": name_pictures}


def vocabulary_captions(class_names: Sequence[str]) -> list[str]:
    """Captions with every word that those of these classes' pictures can have: what a tokenizer is made from."""
    return ["an", *(_caption(name, list(_OF_WORD)) for name in [*class_names, "0", "a", ""])]


def asked_words(caption: str) -> list[str]:
    """The attributes' words in a caption of this file: those before the name, and the leaning behind it."""
    words = caption.split()
    found = []
    for word in words[1:]:
        if word not in _OF_WORD:
            break
        found.append(word)
    last = " ".join(words[-2:])
    return [*found, last] if last in _OF_WORD else found


def caption_agreement(captions: Sequence[str], images: Tensor) -> Tensor:
    """Which share of the attributes that each caption asks for its picture has; float32 (N,), nan where none is asked for."""
    shares = []
    for caption, words in zip(captions, attribute_words(images), strict=True):
        asked = asked_words(caption)
        shares.append(len(set(asked) & set(words)) / len(asked) if asked else float("nan"))
    return torch.tensor(shares)


def _extent(occupied: Tensor) -> Tensor:
    """From the first to the last True in each row of (N, L), both included; float32 (N,), 0 where there is none."""
    places = torch.arange(occupied.shape[1])
    first = torch.where(occupied, places, occupied.shape[1]).min(1).values
    last = torch.where(occupied, places, -1).max(1).values
    return (last - first + 1).clamp(min=0).float()


def _caption(class_name: str, words: Sequence[str]) -> str:
    behind = [word for word in words if word.startswith("leaning")]
    rest = [word for word in words if word not in behind]
    said = " ".join([*rest, _noun(class_name), *behind])
    return f"{'an' if said[0] in 'aeiou' else 'a'} {said}"


def _noun(class_name: str) -> str:
    """How a class is called in a sentence: "T-shirt" is "t shirt", "3" is "digit 3", "a" is "letter a"."""
    name = " ".join(class_name.lower().replace("-", " ").replace("_", " ").split())
    if len(name) == 1:
        return f"digit {name}" if name.isdigit() else f"letter {name}"
    return name or "picture"
