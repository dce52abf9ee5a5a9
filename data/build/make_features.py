"""Train the feature net behind every score of the tiny world (about 8 minutes on one idle core).

Reads build-cache/source_full.npz and the *training* splits of data/tasks/*.npz; validation
splits only measure accuracy, test splits are never opened.  Writes data/models/features/.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # runs before difftuning is installed, too

from difftuning.features import load_feature_net, train_feature_net  # noqa: E402
from difftuning.files import write_json  # noqa: E402

Pair = tuple[Tensor, Tensor]


def gather(source: Path, tasks: Path, repeat: int) -> tuple[Pair, dict[str, Pair], list[dict]]:
    """Training images and labels, held-out sets by name, and a line for each set on the card.

    Every set has its own range of classes in one softmax.  A task's few training images occur
    `repeat` times, so that they count beside the source's many.
    """
    with np.load(source) as file:
        images, labels = [_grey(file["train_images"])], [_tensor(file["train_labels"])]
        kinds, held = file["heldout_kinds"].astype(str), (_grey(file["heldout_images"]), _tensor(file["heldout_labels"]))
    rows = {kind: torch.from_numpy(np.flatnonzero(kinds == kind)) for kind in np.unique(kinds)}
    heldout = {"source": held} | {f"source/{kind}": (held[0][row], held[1][row]) for kind, row in rows.items()}
    first = int(max(labels[0].max(), held[1].max())) + 1
    sets = [{"set": "source", "images": len(images[0]), "repeat": 1, "first_class": 0, "classes": first}]
    for path in sorted(tasks.glob("*.npz")):
        with np.load(path) as file:  # lazily: the test split stays on disk
            train, train_labels = _grey(file["train_images"]), _tensor(file["train_labels"])
            validation_labels = _tensor(file["validation_labels"])
            heldout[f"{path.stem}/validation"] = _grey(file["validation_images"]), validation_labels + first
        classes = int(max(train_labels.max(), validation_labels.max())) + 1
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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=ROOT / "build-cache" / "source_full.npz")
    parser.add_argument("--tasks", type=Path, default=ROOT / "data" / "tasks")
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "models" / "features")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=5, help="how often a task's training image occurs per epoch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    (images, labels), heldout, sets = gather(options.source, options.tasks, options.repeat)
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
