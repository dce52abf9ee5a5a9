"""What the development tasks' validation splits have chosen: each family's learning rate, and the weights of the regularizers."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from typing import Sequence

from ..support.world import data_folder
from .methods import METHODS, REGULARIZER_WEIGHTS
from .tables import Row, kept_rows

_ALL, _FEW = (3e-4, 1e-3, 2e-3), (1e-3, 3e-3, 1e-2)  # of all weights; of an adapter's, which bear more
# The method that stands for each family -> rates tried; the family's other methods name it in their `rate_of`.
TRIED: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("plain", "Diff-Tuning"), _ALL),
    **dict.fromkeys(("LoRA, rank 8", "VPT-Deep"), _FEW),
    # Where the best rate was the lowest or highest of the usual ones, further ones were tried.
    **dict.fromkeys(("BitFit", "DiffFit"), (1e-4, 3e-4, *_FEW)),
    "AdaptFormer, sequential": (*_FEW, 3e-2),
    **dict.fromkeys(("EWC", "distillation", "prior preservation", "P2", "Min-SNR"), _ALL),
    "L2-SP": (1e-4, *_ALL),
}


class _ChosenRates(dict[str, float]):
    """Method -> its learning rate, looked up when first asked for: the chosen one, and until there is one the second of those tried."""

    def __missing__(self, method: str) -> float:
        family = METHODS[method].rate_of
        return self.setdefault(method, _chosen().get(family, TRIED[family][1]))


LEARNING_RATES = _ChosenRates()


@functools.cache
def _chosen() -> dict[str, float]:
    rows = kept_rows(data_folder() / "results" / "learning_rates.csv")
    return best_rates([row for row in rows if row["split"] == "validation"])


def best_rates(rows: Sequence[Row], guidance: str = "1.5") -> dict[str, float]:
    """The learning rate that serves each method best: lowest geometric mean over its tasks of its best score at any step count.

    A rate counts where it was tried on every task that the method has; a method with fewer than two such rates is left out.
    """
    scores: dict[str, dict[float, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        if row["guidance"] == guidance:
            scores[row["method"]][float(row["learning_rate"])][row["task"]].append(float(row["fid"]))
    chosen = {}
    for method, by_rate in scores.items():
        tasks = {task for found in by_rate.values() for task in found}
        means = {
            rate: sum(math.log(min(fids)) for fids in found.values()) for rate, found in by_rate.items() if found.keys() == tasks
        }  # the logarithm of the mean, times the tasks
        if len(means) > 1:
            chosen[method] = min(means, key=means.__getitem__)
    return chosen


def best_weights(losses: Sequence[Row]) -> dict[str, float]:
    """Regularizer -> the weight with the lowest held-out loss on validation pictures: the geometric mean over the chain.

    `losses`: rows of the study `regularizer_weights`; a regularizer without all of its weights in them is left out.
    """
    means: dict[str, float] = defaultdict(float)
    for row in losses:
        if row["data"] == "validation":
            means[row["method"]] += math.log(float(row["after"])) / 10
    weights: dict[str, dict[float, float]] = defaultdict(dict)
    for name, method in REGULARIZER_WEIGHTS.items():
        weights[name.partition(",")[0]][method.regularizer.weight] = means.get(name, math.nan)
    return {name: min(found, key=found.__getitem__) for name, found in weights.items() if not math.isnan(sum(found.values()))}
