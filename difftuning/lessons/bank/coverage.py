"""How well a memory bank covers the source as its size, sampling steps and guidance change.

    precision   share of the bank's pictures inside a ball around a source picture
    recall      share of the source's pictures inside a ball around a bank picture
    coverage    share of the source's balls that hold a bank picture
    fid         Frechet distance of the two sets in our feature space

A ball reaches to a picture's k-th nearest neighbour in its own set.  The balls of recall shrink as
the bank grows; those of precision and coverage belong to the source and stay.

    python -m difftuning.lessons.bank.coverage     # rebuilds data/results/bank_coverage.csv; resumes
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ... import __version__
from ...data.tasks import Task, load_source
from ...evaluation.metrics import NEIGHBOURS, HasImages, extract, frechet_distance, kernel_distance, precision_recall
from ...models.loading import load_pretrained
from ...models.pretrained import Pretrained
from ...studies.gains import read_table
from ...studies.tables import kept_rows, write_rows
from ...support.progress import progress_bar
from ...support.random import seeded_generator
from ...support.world import data_folder, world_version
from ...training.memory_bank import MemoryBank

if TYPE_CHECKING:
    import pandas

TABLE = "bank_coverage.csv"
SIZES = (125, 250, 500, 1000)
STEPS = (3, 6, 12)
GUIDANCES = (1.0, 1.5)
SHARD = 125  # pictures in a file, so that a small bank is the beginning of a large one
PER_CLASS = 4  # reference pictures of each class: every class of the source sample has twice as many
MEASURES = ("precision", "recall", "coverage")


def bank_coverage(pretrained: Pretrained, source: HasImages, sizes: Sequence[int] = SIZES, steps: Sequence[int] = STEPS,
                  guidances: Sequence[float] = GUIDANCES, *, seed: int = 0) -> pandas.DataFrame:  # fmt: skip
    """A row for every steps x guidance x size: the measures against `source`.

    One bank of the largest size is sampled for each steps x guidance; smaller ones are its
    beginnings, so sizes must be multiples of 125, the pictures in a shard.
    """
    import pandas

    combinations = itertools.product(steps, guidances)
    return pandas.DataFrame(itertools.chain(*_measured(pretrained, source, sizes, combinations, seed)))


def _measured(pretrained: Pretrained, source: HasImages, sizes: Sequence[int], combinations: Iterable[tuple[int, float]],
              seed: int) -> Iterator[list[dict[str, Any]]]:  # fmt: skip
    """The rows of each (steps, guidance), as they come."""
    odd = [size for size in sizes if size < SHARD or size % SHARD]
    if odd or not sizes:
        raise ValueError(f"sizes must be multiples of {SHARD}, the pictures in a shard, got {odd[0] if odd else 'none'}")
    reference = source_features(source)  # (M, D)
    labels = equal_labels(len(pretrained.label_names), max(sizes), seed)
    for steps, guidance in combinations:
        with tempfile.TemporaryDirectory() as folder:
            bank = MemoryBank.sample(
                pretrained, max(sizes), folder=folder, seed=seed, labels=labels, steps=steps, guidance=guidance, shard_size=SHARD,
                progress=False,
            )  # fmt: skip
        features = extract(bank.images(pretrained))
        point = _identity(pretrained, seed) | {"steps": steps, "guidance": guidance}
        yield [
            point | {"size": size} | scores(features[:size], reference)
            for size in sizes
        ]  # fmt: skip


@functools.lru_cache(maxsize=4)
def source_features(source: HasImages) -> Tensor:
    """Features (M, D) of a set's pictures, computed once for each set."""
    return extract(source.images)


def scores(features: Tensor, reference: Tensor) -> dict[str, float]:
    """All measures of features (N, D) against reference features (M, D), and the two distances of `evaluate`."""
    precision, recall = precision_recall(features, reference)
    return {
        "precision": precision, "recall": recall, "coverage": float(covered(features, reference).double().mean()),
        "fid": frechet_distance(features, reference), "kid": kernel_distance(features, reference),
    }  # fmt: skip


def covered(features: Tensor, reference: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Which reference points (M, D) have one of the features (N, D) no farther than their own k-th neighbour; bool (M,).

    Its mean is the coverage of Naeem et al. (ICML 2020, section 3.2).  More features never cover less.
    """
    among = torch.cdist(reference, reference, compute_mode="donot_use_mm_for_euclid_dist")  # (M, M)
    radii = among.kthvalue(k + 1, dim=1).values  # a point's distances include its own 0
    return torch.cdist(reference, features, compute_mode="donot_use_mm_for_euclid_dist").amin(1) <= radii


def real_scores(features: Tensor, reference: HasImages, sizes: Sequence[int] = SIZES) -> pandas.DataFrame:
    """The measures of real pictures' features (N, D), for the sizes up to N: what no bank should be expected to beat."""
    import pandas

    against = source_features(reference)
    return pandas.DataFrame([{"size": size} | scores(features[:size], against) for size in sizes if size <= len(features)])


def equal_labels(classes: int, size: int, seed: int) -> Tensor:
    """Every class once, shuffled, then every class once again, ...: each beginning has equal shares; int64 (size,)."""
    rounds = range(-(-size // classes))
    return torch.cat([torch.randperm(classes, generator=seeded_generator(seed, "equal labels", n)) for n in rounds])[:size]


def equal_shares(source: Task, per_class: int = PER_CLASS) -> tuple[Task, Task]:
    """Of every class the first `per_class` pictures, as a reference, and the next ones, up to as many, to set beside a bank.

    A bank has its classes in equal shares, so what it is compared with has them, too.
    The second set comes in the order of `equal_labels`' kind: its beginnings have equal shares.
    """
    place = torch.zeros(len(source), dtype=torch.int64)  # how many of its class come before it
    for label in source.labels.unique():
        mine = source.labels == label
        place[mine] = torch.arange(int(mine.sum()))
    others = ((place >= per_class) & (place < 2 * per_class)).nonzero().flatten()
    shuffled = others[torch.randperm(len(others), generator=seeded_generator(0, "equal shares", per_class))]
    return source.subset(place < per_class), source.subset(shuffled[place[shuffled].argsort(stable=True)])


def load_table() -> pandas.DataFrame:
    """The committed table, of this world alone; FileNotFoundError where it is not there."""
    return read_table(Path(TABLE).stem).astype({"guidance": float})  # a number here, a way of guiding in studies


def rebuild(pretrained: Pretrained, source: HasImages, path: Path, *, sizes: Sequence[int] = SIZES, steps: Sequence[int] = STEPS,
            guidances: Sequence[float] = GUIDANCES, seed: int = 0) -> None:  # fmt: skip
    """Write the table; rows that are there already, of the same world, code and model, are kept."""
    mine = {key: str(value) for key, value in _identity(pretrained, seed).items()}
    rows = [row for row in kept_rows(path) if mine.items() <= row.items()]
    done = {(int(row["steps"]), float(row["guidance"]), int(row["size"])) for row in rows}
    combinations = itertools.product(steps, guidances)
    missing = [(count, guidance) for count, guidance in combinations if not {(count, guidance, size) for size in sizes} <= done]
    for found in progress_bar(_measured(pretrained, source, sizes, missing, seed), "bank coverage", total=len(missing)):
        point = (str(found[0]["steps"]), f"{found[0]['guidance']:.6g}")
        rows = [row for row in rows if (row["steps"], row["guidance"]) != point] + _as_text(found)
        write_rows(path, rows)


def _identity(pretrained: Pretrained, seed: int) -> dict[str, Any]:
    return {"world": world_version(), "code": __version__, "model": pretrained.fingerprint[:12], "seed": seed}


def _as_text(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Rows as the file has them, to six digits."""
    return [{key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in row.items()} for row in rows]


if __name__ == "__main__":
    rebuild(load_pretrained("tiny"), equal_shares(load_source())[0], data_folder() / "results" / TABLE)
