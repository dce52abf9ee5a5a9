"""How far images are from a reference: distances between clouds of features.

`evaluate` puts two sets of images through one feature space and compares the clouds.  The
numbers belong to that space: in the tiny net's they are *the Frechet (kernel) distance in
our feature space*, never plain FID or KID, and they compare with nothing outside this project.
All of it is deterministic, in float64, and does not depend on the order of the images.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import warnings
from collections import OrderedDict
from typing import Callable, Iterator, Protocol

import torch
from torch import Tensor

from ..data.pictures import require_pictures, require_range, to_pixels
from ..data.tasks import Task, spread_evenly
from ..diffusion.process import require_finite
from ..support.names import user_path
from ..support.progress import LONG, progress_bar
from ..support.surroundings import undisturbed
from .feature_net import load_feature_net

Features = str | Callable[[Tensor], Tensor]
NEIGHBOURS = 5  # k of precision and recall
COLOUR_SLACK = 0.05  # mean distance of the channels from their mean that still counts as grey
BATCH = 256  # images whose features are computed at a time
BLOCK = 1024  # rows of a pairwise matrix held at once
MANIFOLD = 10_000  # images whose pairs precision and recall compare, at most
CACHED_REFERENCES = 32


class HasImages(Protocol):
    """A task, or anything else with images (N, 3, H, W) float32 in [-1, 1]."""

    images: Tensor


@undisturbed
def evaluate(images: Tensor | HasImages, reference: Tensor | HasImages, *, features: Features = "tiny",
             device: str | torch.device | None = None) -> dict[str, float | int | str]:  # fmt: skip
    """Compare images (N, 3, H, W) in [-1, 1], or a task's, with a reference set of either kind.

    Returns `fid` (Frechet distance), `kid` (kernel distance), `precision`, `recall`, the name of
    the feature space they belong to as `features`, and the two sizes `n`, `n_reference`.

    `features`: "tiny", our net for 32x32 grey pictures; "inception", torch-fidelity's Inception
    (or "inception:/path/to/weights.pth"), the space in which the Frechet distance is the
    published FID; or a function images -> (N, D).

    The Frechet distance falls with the number of images on either side, so compare at equal n
    only; under 500 reference images read `kid` first, which has no such bias.  Precision and recall
    compare all pairs: of more than `MANIFOLD` images they take so many, evenly spread.  Features of
    the reference are kept for the named spaces and looked up by content.  A task's pictures are
    read a few at a time; `device` is where features are computed (default: where the images are, a task's on the CPU).
    Raises ValueError for empty, non-finite or out-of-range images, fewer than 6 on either
    side, two image sizes, and for a size that the space does not take.
    """
    images, reference = (each if isinstance(each, Task) else getattr(each, "images", each) for each in (images, reference))
    sizes = [_checked_size(role, each) for role, each in (("images", images), ("reference images", reference))]
    if min(len(images), len(reference)) <= NEIGHBOURS:
        raise ValueError(
            f"scores need {NEIGHBOURS + 1} images or more on either side, got {len(images)} and a reference of {len(reference)}"
        )
    if sizes[0] != sizes[1]:
        told = ["x".join(map(str, size)) for size in sizes]
        raise ValueError(f"images are {told[0]} but the reference is {told[1]}: load both with size={min(*sizes[0], *sizes[1])}")
    if features == "tiny" and max(_colour(next(_batches(each, BATCH))) for each in (images, reference)) > COLOUR_SLACK:
        warnings.warn("the tiny feature net sees brightness only: colours do not count in these scores", stacklevel=3)
    a, b = extract(images, features, device=device), _reference_features(reference, features, device)
    precision, recall = precision_recall(*map(_at_most_a_manifold, (a, b)))
    return {
        "fid": frechet_distance(a, b), "kid": kernel_distance(a, b), "precision": precision, "recall": recall,
        "features": _name(features), "n": len(a), "n_reference": len(b),
    }  # fmt: skip


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance between the Gaussians fitted to features (N, D) and (M, D).

        |mu_a - mu_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2))

    The FID of Heusel et al. (NeurIPS 2017, eq. 6) when the features are Inception's.  With
    A = R_a^T R_a by QR of the centred features, the last trace is the sum of the singular
    values of R_a R_b^T: no matrix square root, nothing complex, and covariances of any rank
    (fewer images than features too) are as good as full ones.  Never negative.
    """
    a, b = _check_features(a, b, at_least=2)
    root_a, root_b = _covariance_root(a), _covariance_root(b)
    cross = torch.linalg.svdvals(root_a @ root_b.T).sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, float(means + root_a.square().sum() + root_b.square().sum() - 2 * cross))


def _covariance_root(x: Tensor) -> Tensor:
    """R (min(N, D), D) with R^T R the unbiased covariance of x (N, D)."""
    return torch.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5, mode="r").R


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared MMD between features (N, D) and (M, D) under the kernel (x.y / D + 1)^3.

    The KID of Binkowski et al. (ICLR 2018, eq. 4) when the features are Inception's, over the
    full sets instead of random subsets, hence without a draw.  Its mean over draws of one
    distribution is 0, so it can be a little below.
    """
    a, b = _check_features(a, b, at_least=2)

    def total(x: Tensor, y: Tensor) -> float:
        return sum(float(_cubic(part @ y.T, x.shape[1]).sum()) for part in x.split(BLOCK))

    def among(x: Tensor) -> float:  # mean over pairs of different images
        own = float(_cubic(x.square().sum(1), x.shape[1]).sum())
        return (total(x, x) - own) / (len(x) * (len(x) - 1))

    return among(a) + among(b) - 2 * total(a, b) / (len(a) * len(b))


def _cubic(product: Tensor, dimension: int) -> Tensor:
    return (product / dimension + 1) ** 3


def precision_recall(a: Tensor, reference: Tensor, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Improved precision and recall of features a (N, D) against reference features (M, D).

    Precision: the share of `a` inside the reference's manifold, recall the other way round.
    A set's manifold is the union of balls around its points, each reaching to the point's
    k-th nearest neighbour in the set (Kynkaanniemi et al., NeurIPS 2019, eq. 1 and 2).
    """
    a, reference = _check_features(a, reference, at_least=k + 1)
    return _share_inside(a, reference, k), _share_inside(reference, a, k)


def copied_share(images: Tensor, training: Tensor) -> float:
    """The share of images (N, 3, H, W) that repeat a training picture (M, 3, H, W).

    An image counts as a copy when its nearest training picture is less than a third as far
    as the second nearest, in pixels (Yoon et al., ICML 2023 workshop).  A picture that the set holds
    twice is one picture here.  Scores against a reference do not see copying: a copy of a training
    picture is as good a picture as any.
    """
    _check_images("images", images)
    _check_images("training pictures", training)
    return float(nearest_training(images, training)[1].cpu().double().mean())


def nearest_training(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """For each image the place of its nearest training picture, int64 (N,), and whether it is a copy of it (`copied_share`'s rule), bool (N,)."""
    rows = training.float().flatten(1)
    places = _distinct(rows)
    if len(places) < 2:
        raise ValueError(f"copies are told by the second nearest of different training pictures, got {len(places)}")
    nearest = [part.topk(2, dim=1, largest=False) for part in _distances(images.float().flatten(1), rows[places])]
    near, which = (torch.cat(parts) for parts in zip(*nearest))
    return places.to(which.device)[which[:, 0]], near[:, 0] < near[:, 1] / 3


def _distinct(rows: Tensor) -> Tensor:
    """The places of the rows (M, D) that repeat no earlier one; int64."""
    first = {hashlib.sha256(row).digest(): place for place, row in reversed(list(enumerate(rows.cpu().contiguous().numpy())))}
    return torch.tensor(sorted(first.values()), dtype=torch.int64, device=rows.device)


def _share_inside(points: Tensor, manifold: Tensor, k: int) -> float:
    # the k+1 smallest of a point's distances include its own 0
    radii = torch.cat([block.kthvalue(k + 1, dim=1).values for block in _distances(manifold, manifold)])  # (M,)
    return sum(int((block <= radii).any(1).sum()) for block in _distances(points, manifold)) / len(points)


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Euclidean distances in blocks of rows; without the matrix product, so that twins are exactly 0 apart."""
    for part in x.split(BLOCK):
        yield torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist")  # (rows, M)


@undisturbed
@torch.no_grad()
def extract(
    images: Tensor | Task, features: Features = "tiny", batch_size: int = BATCH, *, device: str | torch.device | None = None
) -> Tensor:
    """Features (N, D), float64 on the CPU, of images (N, 3, H, W) in [-1, 1] or a task's; `features` and `device` as in `evaluate`."""
    _checked_size("images", images)
    place = getattr(images, "device", torch.device("cpu")) if device is None else torch.device(device)
    extractor = _extractor(features, place) if isinstance(features, str) else features
    batches = progress_bar(
        _batches(images, batch_size), "features", total=-(-len(images) // batch_size), shown=len(images) > MANIFOLD, delay=LONG
    )
    parts = [extractor(part.to(place).float().clamp(-1, 1)) for part in batches]
    found = torch.cat(parts).cpu().double()  # in this order: some devices have no float64
    require_finite(f"{_name(features)}'s features", found)
    return found


@functools.cache
def _extractor(name: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    space, _, weights = name.partition(":")
    if name == "tiny":
        return copy.deepcopy(load_feature_net()).to(device)
    if space == "inception":
        return _inception(str(user_path(weights)) if weights else None, device)
    raise ValueError(f'unknown feature space {name!r}: choose "tiny", "inception", "inception:WEIGHTS" or give a function')


def _inception(weights: str | None, device: torch.device) -> Callable[[Tensor], Tensor]:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ImportError('features="inception" needs torch-fidelity: pip install "difftuning[paper]"') from error
    net = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=weights).to(device)
    # it takes 8-bit images of any size and resizes them to 299 itself
    return lambda images: net(to_pixels(images))[0]


_references: OrderedDict[tuple[str, str], Tensor] = OrderedDict()


def _reference_features(images: Tensor | Task, features: Features, device: str | torch.device | None) -> Tensor:
    """`extract`, remembered by content for the named spaces (a function may change between two calls)."""
    if not isinstance(features, str):
        return extract(images, features, device=device)
    key = features, images.fingerprint if isinstance(images, Task) else _content(images)
    if key not in _references:
        _references[key] = extract(images, features, device=device)
    _references.move_to_end(key)
    if len(_references) > CACHED_REFERENCES:
        _references.popitem(last=False)
    return _references[key]


def _content(images: Tensor) -> str:
    pixels = images.detach().cpu().contiguous()
    digest = hashlib.blake2b(repr((pixels.shape, pixels.dtype)).encode())
    digest.update(pixels.view(torch.uint8).numpy())  # numpy has no bfloat16
    return digest.hexdigest()


def _batches(images: Tensor | Task, size: int) -> Iterator[Tensor]:
    """Images a few at a time; a task's are read when they are asked for."""
    for first in range(0, len(images), size):
        places = range(first, min(first + size, len(images)))
        yield images.read(places) if isinstance(images, Task) else images[first : first + size]


def _at_most_a_manifold(features: Tensor) -> Tensor:
    return features[spread_evenly(len(features), MANIFOLD)] if len(features) > MANIFOLD else features


def _name(features: Features) -> str:
    if isinstance(features, str):
        return features.partition(":")[0]
    return getattr(features, "__name__", type(features).__name__)


def _checked_size(role: str, images: Tensor | Task) -> tuple[int, int]:
    """Height and width; a task's pictures are what they should be."""
    if isinstance(images, Task):
        return images.image_size, images.image_size
    _check_images(role, images)
    return tuple(images.shape[2:])


def _check_images(role: str, images: Tensor) -> None:
    require_pictures(role, images)
    if len(images) == 0:
        raise ValueError(f"there are no {role} to score")
    require_range(role, images)


def _check_features(a: Tensor, b: Tensor, *, at_least: int) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < at_least:
        raise ValueError(f"features are (N, D) and (M, D), of {at_least} images or more, got {tuple(a.shape)} and {tuple(b.shape)}")
    for features in (a, b):
        require_finite("features", features)
    return a.cpu().double(), b.cpu().double()


def _colour(images: Tensor) -> float:
    return float((images - images.mean(1, keepdim=True)).abs().mean())
