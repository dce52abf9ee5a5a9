"""Five tiny annotators: classical image processing that finds edges, lines, regions, depth and normals in a grey picture.

They take one picture `grey` (H, W), float in [0, 1], and give one of (H, W) or (H, W, 3) in
[0, 1].  They are made for pictures like the tiny world's: one object on an even ground.
Lengths are written for a picture 32 pixels wide.  What follows the shape grows with the side
of larger pictures; what follows detail grows with its square root, for a large photograph has
both larger shapes and finer detail.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy import ndarray

SIDE = 32  # pixels, for which the lengths below are written
EDGE_BLUR = 0.8  # pixels; blurs are standard deviations of Gaussians
WEAK_EDGE, EDGE = 0.08, 0.2  # steps of brightness, of the whole range: an edge starts at the second and goes on down to the first
LINE_BLUR, LINE_SURROUND = 0.7, 1.6  # pixels; how much wider the surround is (1.6: Marr and Hildreth, 1980)
LINE = 0.15 * 0.112  # beside a step of that height; a step from 0 to 1 gives 0.112 at most
LINE_SOFTNESS = 0.6  # pixels
SHORTEST_LINE = 4  # pixels
OBJECT_BLUR = 0.5  # pixels
OBJECT = 0.15  # of the range from black to white, between an object and the ground
TONE_BLUR = 1.5  # pixels
TONE_CONTRAST = 0.2  # between the two tones of an object; under it the object has one
RELIEF_BLUR = 1.0  # pixels


def edges(grey: ndarray) -> ndarray:
    """1 on Canny's edges (1986), else 0: a pixel thin, or two where an edge runs between pixels."""
    from skimage.feature import canny

    sigma = EDGE_BLUR * _detail(grey)
    # what the Sobel filter gives half a pixel beside a blurred step from 0 to 1
    step = 2 * (math.erf(1.5 / (sigma * math.sqrt(2))) + math.erf(0.5 / (sigma * math.sqrt(2))))
    return canny(grey, sigma, low_threshold=WEAK_EDGE * step, high_threshold=EDGE * step).astype(float)


def sketch(grey: ndarray) -> ndarray:
    """A soft line drawing, as with a pen: one line along a stroke, where Canny draws both borders of it.

    Lines are what is brighter than its surround (a difference of Gaussians), thinned to a
    pixel's width, without the short ones, and blurred a little.
    """
    from scipy.ndimage import label
    from skimage.filters import gaussian
    from skimage.morphology import skeletonize

    sigma, softness = LINE_BLUR * _detail(grey), LINE_SOFTNESS * _detail(grey)
    brighter = gaussian(grey, sigma) - gaussian(grey, LINE_SURROUND * sigma)
    lines = skeletonize(brighter > LINE)
    pieces, _ = label(lines, np.ones((3, 3)))
    lengths = np.bincount(pieces.ravel())
    lengths[0] = 0  # what is no line
    kept = (lengths >= SHORTEST_LINE * _detail(grey))[pieces].astype(float)
    straight = math.erf(0.5 / (softness * math.sqrt(2)))  # what the blur leaves of a straight line's middle
    return np.minimum(gaussian(kept, softness) / straight, 1)


def segments(grey: ndarray) -> ndarray:
    """Flat regions: 0 for the ground, 1 for the object, or 128/255 and 1 for its darker and brighter part.

    The object is split by Otsu's threshold (1979) of its tone, blurred within its outline, where
    the two parts differ by `TONE_CONTRAST`.
    """
    from skimage.filters import gaussian, threshold_otsu

    inside = object_mask(grey)
    regions = inside.astype(float)
    sigma = TONE_BLUR * _scale(grey)
    weight = gaussian(regions, sigma)
    tone = gaussian(grey * regions, sigma)[inside] / weight[inside]
    if len(tone) and np.ptp(tone) > TONE_CONTRAST:
        brighter = tone > threshold_otsu(tone)
        if tone[brighter].mean() - tone[~brighter].mean() > TONE_CONTRAST:
            regions[inside] = np.where(brighter, 1, 128 / 255)
    return regions


def depth(grey: ndarray) -> ndarray:
    """`relief`, its highest point at 1: near is bright, the ground is 0.  All 0 where there is no object."""
    height = relief(grey)
    return height / max(height.max(), 1e-9)


def normals(height: ndarray) -> ndarray:
    """The unit normals of a relief (H, W), heights in pixels, as colours (H, W, 3): (n + 1) / 2.

    n = (-dz/dx, -dz/dy, 1) / |.| with x to the right, y up and z to the viewer: red faces right,
    green up; what is flat is (1/2, 1/2, 1).
    """
    down, right = np.gradient(height)
    n = np.stack([-right, down, np.ones_like(height)], axis=-1)
    return (n / np.linalg.norm(n, axis=-1, keepdims=True) + 1) / 2


def relief(grey: ndarray) -> ndarray:
    """Heights in pixels (H, W): a pillow over the object, as high at each point as its outline is far, a little smoothed.

    A flat picture has no depth: this is what its silhouette suggests.  0 where nothing or everything is object.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.filters import gaussian

    inside = object_mask(grey)
    if inside.all() or not inside.any():  # there is no outline
        return np.zeros_like(grey)
    return gaussian(distance_transform_edt(inside), RELIEF_BLUR * _scale(grey))


def object_mask(grey: ndarray) -> ndarray:
    """What differs from the ground, bool (H, W); the ground's tone is the median of the picture's border."""
    from skimage.filters import gaussian

    ground = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    return gaussian(np.abs(grey - ground), OBJECT_BLUR * _scale(grey)) > OBJECT


def _scale(grey: ndarray) -> float:
    return min(grey.shape) / SIDE


def _detail(grey: ndarray) -> float:
    return math.sqrt(_scale(grey))
