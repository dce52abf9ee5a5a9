"""The tiny world's feature net: a small classifier whose penultimate layer is our yardstick.

It stands where Inception stands at paper scale.  It was trained on the source and on the
tasks' training splits (never on test images), so distances in its space compare results
within this project and with nothing outside it.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .files import load_tensors, read_json, save_tensors, world_file, write_json
from .progress import progress_bar

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_SHIFT = 2  # pixels
MAX_NOISE = 0.1  # about the autoencoder's error at 26 dB, in [-1, 1]
MAX_BLUR = 0.6  # how far towards a 3x3 binomial blur


class FeatureNet(nn.Module):
    """A residual convolution net: images (N, 3, S, S) in [-1, 1] -> features (N, num_features).

    It looks at brightness, the mean of the three channels, since the tiny world is grey.
    Smooth throughout (GELU, GroupNorm, average pooling); every image is treated alone, so
    features do not depend on the batch.  The features are a linear layer's output, centred
    and scaled to mean variance 1 over the training images, and one linear layer away from
    the class logits.
    """

    def __init__(self, num_classes: int, *, image_size: int = 32, num_features: int = 64,
                 widths: Sequence[int] = (16, 48, 96), depths: Sequence[int] = (1, 1, 2)):  # fmt: skip
        super().__init__()
        self.config = {
            "num_classes": num_classes, "image_size": image_size, "num_features": num_features,
            "widths": list(widths), "depths": list(depths),
        }  # fmt: skip
        self.image_size = image_size
        self.stem = nn.Conv2d(1, widths[0], 4, stride=2, padding=1)
        stages = []
        for width, depth, wider in zip(widths, depths, [*widths[1:], None]):
            stages += [_Block(width) for _ in range(depth)]
            stages += [nn.AvgPool2d(2), nn.Conv2d(width, wider, 1)] if wider else []
        self.stages = nn.Sequential(*stages, nn.GroupNorm(8, widths[-1]), nn.GELU())
        self.project = nn.Linear(widths[-1], num_features)
        self.head = nn.Linear(num_features, num_classes)
        self.to(memory_format=torch.channels_last)  # 1.4 times faster on a CPU

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, num_features) of images (N, 3, S, S); ValueError at any other size."""
        size = self.image_size
        if images.ndim != 4 or images.shape[1] not in (1, 3) or tuple(images.shape[2:]) != (size, size):
            raise ValueError(
                f"the feature net takes images of shape (N, 3, {size}, {size}), got {tuple(images.shape)}: "
                f"resize them to {size}x{size} or evaluate in another feature space"
            )
        x = self.stem(images.mean(1, keepdim=True))  # (N, 1, S, S) -> (N, C, S/2, S/2)
        x = self.stages(x.contiguous(memory_format=torch.channels_last))  # (N, C', S/8, S/8)
        return self.project(x.mean((2, 3)))  # (N, num_features)

    def logits(self, images: Tensor) -> Tensor:
        """Class logits (N, num_classes)."""
        return self.head(self(images))


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.outer = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(F.gelu(self.inner(self.norm(x))))


def load_feature_net(folder: str | Path | None = None) -> FeatureNet:
    """The feature net in `folder` (config.json, model.safetensors), or the shipped one; eval mode, float32.

    The shipped net is checked against its checksums and read once per process.
    """
    if folder is None:
        return _shipped_feature_net()
    return _read_feature_net(Path(folder) / CONFIG, Path(folder) / WEIGHTS)


@functools.cache
def _shipped_feature_net() -> FeatureNet:
    return _read_feature_net(world_file(f"models/features/{CONFIG}"), world_file(f"models/features/{WEIGHTS}"))


def _read_feature_net(config: Path, weights: Path) -> FeatureNet:
    options = read_json(config)
    with torch.random.fork_rng(devices=[]):  # reading a net must not move anyone's random state
        net = FeatureNet(options.pop("num_classes"), **options)
    net.load_state_dict(load_tensors(weights))  # half precision on disk, float32 here
    return net.eval().requires_grad_(False)


def save_feature_net(net: FeatureNet, folder: str | Path) -> None:
    """Write config.json and model.safetensors (half precision) into `folder`."""
    write_json(Path(folder) / CONFIG, net.config)
    save_tensors(Path(folder) / WEIGHTS, {name: weight.half() for name, weight in net.state_dict().items()})


def train_feature_net(images: Tensor, labels: Tensor, num_classes: int, *, folder: str | Path,
                      heldout: Mapping[str, tuple[Tensor, Tensor]], epochs: int = 5, seed: int = 0,
                      batch_size: int = 128, learning_rate: float = 4e-3, label_smoothing: float = 0.1,
                      progress: bool = True, **options: object) -> dict[str, float]:  # fmt: skip
    """Train a `FeatureNet` (with `options`), write it to `folder`, return accuracies on held-out sets.

    `images` are (N, S, S) uint8 grey or (N, 3, S, S) in [-1, 1]; one softmax over all classes.
    Small shifts, noise and blur keep the autoencoder's artefacts from dominating the features.
    `heldout` maps a set's name to its (images, labels); the accuracies are those of the file
    just written, half precision included.  Same seed and threads, same net.
    """
    _check_training_set(images, labels, num_classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = FeatureNet(num_classes, image_size=images.shape[-1], **options).train()
    steps = epochs * math.ceil(len(images) / batch_size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=max(steps, 2), pct_start=0.15)
    with progress_bar(None, "feature net", total=steps, shown=progress) as bar:
        for _ in range(epochs):
            for rows in torch.randperm(len(images), generator=generator).split(batch_size):
                batch = augment(to_grey(images[rows]), generator=generator)
                loss = F.cross_entropy(net.logits(batch), labels[rows], label_smoothing=label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
                bar.update()
    _standardise(net.eval(), images[torch.randperm(len(images), generator=generator)[:10_000]])
    save_feature_net(net, folder)
    net = load_feature_net(folder)
    return {name: accuracy(net, *pair) for name, pair in heldout.items()}


@torch.no_grad()
def accuracy(net: FeatureNet, images: Tensor, labels: Tensor, *, batch_size: int = 256) -> float:
    """Share of images whose largest logit, over the classes of all sets, is the label's."""
    if len(images) == 0:
        raise ValueError("accuracy of no images")
    pairs = zip(images.split(batch_size), labels.split(batch_size))
    return sum(int((net.logits(to_grey(part)).argmax(1) == label).sum()) for part, label in pairs) / len(images)


def to_grey(images: Tensor) -> Tensor:
    """(N, S, S) uint8 or (N, 3, S, S) in [-1, 1] -> (N, 1, S, S) float32 in [-1, 1]."""
    if images.dtype == torch.uint8:
        return images[:, None] / 127.5 - 1
    return images.float().mean(1, keepdim=True)


def augment(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """Shift by up to two pixels (edges repeated), blur half the images a little, add mild noise; same shape."""
    n, _, height, width = images.shape
    shift = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2, n, 1), generator=generator)
    rows = (torch.arange(height) + shift[0]).clamp(0, height - 1)  # (n, height)
    columns = (torch.arange(width) + shift[1]).clamp(0, width - 1)  # (n, width)
    images = images[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]  # (n, 1, height, width)
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    blurred = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), (kernel[:, None] * kernel)[None, None])
    strength = MAX_BLUR * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1).clamp(min=0)
    sigma = MAX_NOISE * torch.rand(n, 1, 1, 1, generator=generator)
    return images.lerp(blurred, strength) + sigma * torch.randn(images.shape, generator=generator)


@torch.no_grad()
def _standardise(net: FeatureNet, images: Tensor) -> None:
    """Fold into `project` the shift and the one scale that centre the features at mean variance 1; logits stay."""
    features = torch.cat([net(to_grey(part)) for part in images.split(256)])
    centre, scale = features.mean(0), features.var(0, correction=0).mean().sqrt()
    net.head.bias += net.head.weight @ centre
    net.head.weight *= scale
    net.project.bias.copy_((net.project.bias - centre) / scale)
    net.project.weight /= scale


def _check_training_set(images: Tensor, labels: Tensor, num_classes: int) -> None:
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(f"{len(images)} images with {len(labels)} labels cannot train a net")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels {int(labels.min())}..{int(labels.max())} do not fit {num_classes} classes")
    if images.dtype == torch.uint8 and images.ndim != 3:
        raise ValueError(f"uint8 images are grey, (N, S, S), got {tuple(images.shape)}; give colour as (N, 3, S, S) float in [-1, 1]")
