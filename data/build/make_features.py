"""Train the feature net behind every score of the tiny world (about 8 minutes on one idle core).

Reads build-cache/source_full.npz and the *training* splits of data/tasks/*.npz; validation
splits only measure accuracy, test splits are never opened.  Writes data/models/features/.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # runs before difftuning is installed, too

from difftuning.evaluation.feature_net import CONFIG, WEIGHTS, FeatureNet, load_feature_net  # noqa: E402
from difftuning.support.files import save_tensors, write_json  # noqa: E402
from difftuning.support.progress import progress_bar  # noqa: E402

Pair = tuple[Tensor, Tensor]
MAX_SHIFT = 2  # pixels
MAX_NOISE = 0.1  # about the autoencoder's error at 26 dB, in [-1, 1]
# Source classes of a task's kind are left out: a net cannot tell a "handwritten digit" from the task's "3".
COARSE = ["shoe", "handwritten digit", "coloured emoji", "drawn emoji", "token or brand mark", "regional flag", "pixel icon"]
MAX_BLUR = 0.6  # how far towards a 3x3 binomial blur


def gather(source: Path, tasks: Path, pictures: int) -> tuple[Pair, dict[str, Pair], list[dict]]:
    """Training images and labels, held-out sets by name, and a line for each set on the card.

    Every set has its own range of classes in one softmax.  A task's few training images occur
    so often that it counts as some `pictures` beside the source's many.  The source's `COARSE` classes are left out.
    """
    with np.load(source) as file:
        coarse, first = np.flatnonzero(np.isin(file["class_names"], COARSE)), len(file["class_names"])
        train, held_out = (~np.isin(file[f"{part}_labels"], coarse) for part in ("train", "heldout"))
        images, labels = [_grey(file["train_images"][train])], [_tensor(file["train_labels"][train])]
        kinds = file["heldout_kinds"][held_out].astype(str)
        held = _grey(file["heldout_images"][held_out]), _tensor(file["heldout_labels"][held_out])
    rows = {kind: torch.from_numpy(np.flatnonzero(kinds == kind)) for kind in np.unique(kinds)}
    heldout = {"source": held} | {f"source/{kind}": (held[0][row], held[1][row]) for kind, row in rows.items()}
    sets = [{"set": "source", "images": len(images[0]), "repeat": 1, "first_class": 0, "classes": first}]
    for path in sorted(tasks.glob("*.npz")):
        with np.load(path) as file:  # lazily: the test split stays on disk
            train, train_labels = _grey(file["train_images"]), _tensor(file["train_labels"])
            validation_labels = _tensor(file["validation_labels"])
            heldout[f"{path.stem}/validation"] = _grey(file["validation_images"]), validation_labels + first
        classes = int(max(train_labels.max(), validation_labels.max())) + 1
        repeat = max(1, round(pictures / len(train)))
        images.append(train.repeat(repeat, 1, 1))
        labels.append(train_labels.repeat(repeat) + first)
        sets.append({"set": f"{path.stem}/train", "images": len(train), "repeat": repeat, "first_class": first, "classes": classes})
        first += classes
    if len(sets) == 1:
        raise FileNotFoundError(f"no tasks in {tasks}: build them first")
    return (torch.cat(images), torch.cat(labels)), heldout, sets


def _grey(images: np.ndarray) -> Tensor:
    """(N, S, S) or (N, S, S, 3) uint8 -> (N, S, S) uint8."""
    if images.dtype != np.uint8:
        raise TypeError(f"the tiny world's images are uint8, got {images.dtype}")
    return torch.from_numpy(images if images.ndim == 3 else images.mean(-1).round().astype(np.uint8))


def _tensor(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=ROOT / "build-cache" / "source_full.npz")
    parser.add_argument("--tasks", type=Path, default=ROOT / "data" / "tasks")
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "models" / "features")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=2000, help="a task with fewer counts as if it had so many")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    (images, labels), heldout, sets = gather(options.source, options.tasks, options.pictures)
    num_classes = sets[-1]["first_class"] + sets[-1]["classes"]
    start = time.perf_counter()
    accuracies = train_feature_net(
        images, labels, num_classes, folder=options.folder, heldout=heldout, epochs=options.epochs, seed=options.seed
    )
    card = {
        "what": "small classifier of 32x32 grey pictures; its 64 features are the space of the tiny world's scores",
        "trained_on": sets,
        "never_seen": "the source's held-out part, every task's validation and test split",
        "parameters": sum(weight.numel() for weight in load_feature_net(options.folder).parameters()),
        "epochs": options.epochs,
        "seed": options.seed,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "accuracy": {name: round(value, 4) for name, value in accuracies.items()},
    }
    write_json(options.folder / "card.json", card)
    for name, value in card["accuracy"].items():
        print(f"{name:32s} {value:.3f}  of {len(heldout[name][0])}")


if __name__ == "__main__":
    main()
