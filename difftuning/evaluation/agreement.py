"""Whether samples obey the condition that was asked for, and the step of training at which they begin to.

The paper reports a step of "sudden convergence" for each condition of a ControlNet, and how it
measured that is not known to us.  Here: sample fixed conditions from fixed noise every so
many steps, find the condition in each sample (`annotate`), compare it with the one that was
asked for (`condition_agreement`), and look for the step at which the curve has jumped.
"""

from __future__ import annotations

import math
from typing import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.conditions import KINDS, Kind
from ..data.pictures import RANGE_SLACK, require_pictures
from ..support.options import require_choice
from ..support.settings import plain
from ..support.surroundings import undisturbed

TOLERANCE_SIDE = 32  # pixels of a side for each pixel that an edge may be off
WINDOW, WINDOW_BLUR = 11, 1.5  # pixels: the window of SSIM and the standard deviation of its weights
STABLE = (0.01**2, 0.03**2)  # its constants, for numbers between 0 and 1


@undisturbed
def condition_agreement(kind: Kind, asked: Tensor, found: Tensor) -> Tensor:
    """How well each picture's condition agrees with the one asked for: (N,) float64 on the CPU, 1 where they are equal, higher is better.

    `asked` and `found` are condition pictures (N, 3, H, W) in [0, 1], as `annotate` gives them.

    | kind | agreement | between |
    |---|---|---|
    | edge | `edge_f1` | 0 and 1 |
    | sketch | `sketch_ssim` | -1 and 1 |
    | segmentation | `region_iou` | 0 and 1 |
    | depth | 1 - `depth_rmse` | 0 and 1 |
    | normal | 1 - `normal_angle` / 180 | 0 and 1 |

    The five measures differ in what chance gives them: `scale_agreement` puts them on one axis.
    Raises ValueError for an unknown kind, another shape or range, NaN, and pictures too small for SSIM.
    """
    require_choice("condition", kind, KINDS)
    for role, pictures in ("asked", asked), ("found", found):
        _check_conditions(role, pictures)
    if asked.shape != found.shape:
        raise ValueError(f"asked is {tuple(asked.shape)} but found is {tuple(found.shape)}: compare pictures one by one, at one size")
    if kind == "sketch" and min(asked.shape[2:]) < WINDOW:
        raise ValueError(f"sketches are compared in windows of {WINDOW} pixels, got {tuple(asked.shape)}: enlarge the pictures")
    return AGREEMENTS[kind](asked.detach().cpu().double(), found.detach().cpu().double())


def edge_f1(asked: Tensor, found: Tensor) -> Tensor:
    """F1 of edge pixels (those over 1/2), where one pixel off still counts; (N,).

    Precision is the share of found edge pixels with an asked one within a pixel, diagonals
    included (two pixels at 64 pixels a side, and so on), recall the share of asked ones with a
    found one.  1 where neither has edges, 0 where one has.
    """
    reach = max(1, round(min(asked.shape[2:]) / TOLERANCE_SIDE))
    edges = {"asked": (asked.mean(1, keepdim=True) > 0.5).double(), "found": (found.mean(1, keepdim=True) > 0.5).double()}
    near = {name: F.max_pool2d(picture, 2 * reach + 1, stride=1, padding=reach) for name, picture in edges.items()}
    hits = {name: (edges[name] * near[other]).sum((1, 2, 3)) for name, other in (("asked", "found"), ("found", "asked"))}
    counts = {name: picture.sum((1, 2, 3)) for name, picture in edges.items()}
    recall, precision = (hits[name] / counts[name].clamp(min=1) for name in ("asked", "found"))
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return torch.where(counts["asked"] + counts["found"] > 0, f1, 1.0)


def sketch_ssim(asked: Tensor, found: Tensor) -> Tensor:
    """Structural similarity (Wang et al., IEEE TIP 2004, eq. 13) of the pictures' brightness, their mean over all whole windows; (N,)."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    row = (-0.5 * (offsets / WINDOW_BLUR).square()).exp()
    weights = (row[:, None] * row / row.sum() ** 2)[None, None]  # (1, 1, 11, 11)

    def local_mean(x: Tensor) -> Tensor:
        return F.conv2d(x, weights)

    x, y = asked.mean(1, keepdim=True), found.mean(1, keepdim=True)
    mean_x, mean_y = local_mean(x), local_mean(y)
    spread = local_mean(x * x) - mean_x**2 + local_mean(y * y) - mean_y**2
    common = local_mean(x * y) - mean_x * mean_y
    ssim = (2 * mean_x * mean_y + STABLE[0]) * (2 * common + STABLE[1])
    return (ssim / ((mean_x**2 + mean_y**2 + STABLE[0]) * (spread + STABLE[1]))).mean((1, 2, 3))


def region_iou(asked: Tensor, found: Tensor) -> Tensor:
    """Intersection over union of each colour's region, their mean over the colours that either picture has; (N,)."""
    places = torch.tensor([65536, 256, 1]).reshape(1, 3, 1, 1)
    asked, found = (((pictures * 255).round().long() * places).sum(1) for pictures in (asked, found))  # (N, H, W)
    scores = [
        [((a == colour) & (b == colour)).sum() / ((a == colour) | (b == colour)).sum().double() for colour in torch.stack([a, b]).unique()]
        for a, b in zip(asked, found)
    ]
    return torch.stack([torch.stack(each).mean() for each in scores]) if scores else torch.empty(0, dtype=torch.float64)


def depth_rmse(asked: Tensor, found: Tensor) -> Tensor:
    """Root mean squared difference of the depths, which lie in [0, 1]; (N,), lower is better."""
    return (asked.mean(1) - found.mean(1)).square().mean((1, 2)).sqrt()


def normal_angle(asked: Tensor, found: Tensor) -> Tensor:
    """Mean angle between the normals, in degrees; (N,), lower is better.  The flat ground counts as the object does."""
    a, b = (F.normalize(2 * pictures - 1, dim=1) for pictures in (asked, found))
    # not acos(a . b), which loses small angles to rounding
    return torch.rad2deg(2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))).mean((1, 2))


AGREEMENTS: dict[Kind, Callable[[Tensor, Tensor], Tensor]] = {
    "edge": edge_f1,
    "sketch": sketch_ssim,
    "segmentation": region_iou,
    "depth": lambda asked, found: 1 - depth_rmse(asked, found),
    "normal": lambda asked, found: 1 - normal_angle(asked, found) / 180,
}


def scale_agreement(agreement: Tensor, *, base: Tensor, real: Tensor) -> Tensor:
    """Agreement on a scale where 0 is that of the unconditioned base model and 1 that of real pictures; shape of `agreement`.

    `base`: the agreement of samples that were drawn without the condition; `real`: that of the
    pictures the conditions come from, once through the autoencoder (equal pictures agree
    perfectly, and no latent model draws better than its decoder).  Of both the mean counts.
    Raises ValueError where real pictures agree no better than the base.
    """
    low, high = (torch.as_tensor(each, dtype=torch.float64).mean() for each in (base, real))
    if not high > low:
        raise ValueError(
            f"real pictures agree no better ({high:.3g}) than the unconditioned base ({low:.3g}): the condition says nothing here, "
            "or the two are swapped"
        )
    return (torch.as_tensor(agreement, dtype=torch.float64) - low) / (high - low)


@undisturbed
def sudden_convergence_step(steps: Sequence[int] | Tensor, scores: Sequence[float] | Tensor, *, threshold: float, k: int = 3) -> int | None:
    """The first step from which the score is above `threshold` for `k` checks in a row; None if it never is.

    `steps` (n,) are the steps of the checks, rising; `scores` (n,) a score at each, higher is
    better.  This is our definition: the paper's measure and threshold are not known to us, so its
    steps and ours compare in ratio at most.  A later fall does not count against the step.
    Raises ValueError for steps that do not rise, another number of scores, NaN, k < 1.
    """
    steps, scores, k = _check_curve(steps, scores, k)
    if math.isnan(threshold := plain("threshold", "float", threshold)):
        raise ValueError("threshold is NaN, which no score is above: give a number such as 0.5")
    above = scores > threshold
    for i in range(len(steps) - k + 1):
        if above[i : i + k].all():
            return steps[i]
    return None


def steepest_step(steps: Sequence[int] | Tensor, scores: Sequence[float] | Tensor, *, k: int = 3) -> int | None:
    """The step at which the score rises most steeply, a second view that needs no threshold; None if it never rises.

    The slope at a check is the mean of the `k` scores from it on less the mean of the `k` scores
    before it, over the difference of their mean steps: noise averages out, and a clean jump
    is dated to its first high score, as `sudden_convergence_step` does.  Needs 2k checks.
    Raises what `sudden_convergence_step` raises, and ValueError for fewer checks.
    """
    steps, scores, k = _check_curve(steps, scores, k)
    if len(steps) < 2 * k:
        raise ValueError(f"a slope over k = {k} checks on either side needs {2 * k} of them, got {len(steps)}: check more often or lower k")
    x, y = (torch.as_tensor(each, dtype=torch.float64).unfold(0, k, 1).mean(1) for each in (steps, scores))  # means of k in a row
    slopes = (y[k:] - y[:-k]) / (x[k:] - x[:-k])
    best = int(slopes.argmax())
    return steps[best + k] if slopes[best] > 0 else None


def _check_curve(steps: Sequence[int] | Tensor, scores: Sequence[float] | Tensor, k: int) -> tuple[list[int], Tensor, int]:
    k = plain("k", "int", k)
    if k < 1:
        raise ValueError(f"k is a number of checks, at least 1, got {k}")
    steps = torch.as_tensor(steps).tolist()
    scores = torch.as_tensor(scores, dtype=torch.float64).detach().cpu()
    if scores.shape != (len(steps),):
        raise ValueError(f"one score for each of {len(steps)} steps, got scores of shape {tuple(scores.shape)}")
    if any(later <= earlier for earlier, later in zip(steps, steps[1:])):
        raise ValueError(f"steps must rise, got {steps}")
    if scores.isnan().any():
        raise ValueError(f"the score at step {steps[int(scores.isnan().nonzero()[0])]} is NaN: leave that check out")
    return steps, scores, k


def _check_conditions(role: str, pictures: Tensor) -> None:
    require_pictures(role, pictures)
    if not pictures.is_floating_point():
        raise ValueError(f"{role} must be float in [0, 1], got {pictures.dtype}: divide 8-bit pictures by 255")
    if not pictures.isfinite().all():
        raise ValueError(f"{role} holds NaN or infinity: only pictures that annotate() gives are compared")
    low, high = (float(pictures.min()), float(pictures.max())) if len(pictures) else (0, 0)
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise ValueError(f"{role} must lie in [0, 1], got {low:.3g}..{high:.3g}: give what annotate() finds in the images, not the images")
