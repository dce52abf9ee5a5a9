"""The tables of lesson 02, and the test of its prediction: what is said to grow along the chain must grow with t.

    python -m difftuning.lessons.forgetting     # rebuilds data/results/zero_shot.csv; some minutes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence

import numpy as np
import torch

from ..chain import zero_shot_denoising
from ..data import list_tasks, load_source, load_task
from ..files import atomic_path, data_folder
from ..metrics import evaluate
from ..pretrained import Pretrained, load_pretrained
from ..progress import progress_bar
from ..result_tables import world_version
from .plots import mean_interval

if TYPE_CHECKING:
    import pandas

TIMESTEPS = (50, 100, 200, 300, 400, 500, 600, 700, 800, 900)
SOURCE = "source, held out"
PICTURES = 60  # of each set and seed; each seed has its own
STEPS = 25  # of the sampler, to a whole chain


def zero_shot_table(model: Pretrained, sets: Sequence[str] | None = None, *, seeds: Sequence[int] = range(5),
                    timesteps: Sequence[int] = TIMESTEPS, pictures: int = PICTURES) -> pandas.DataFrame:  # fmt: skip
    """A row for each set, seed and timestep: `error` per pixel, and how far what comes back is from the set (`kid`).

    The error grows with t for the best of models too, because noise hides the picture.  The
    kernel distance does not: a model of the very set would stay near 0 along the whole chain.
    """
    import pandas

    rows = []
    for name in progress_bar([SOURCE, *list_tasks()] if sets is None else sets, "sets"):
        task = load_source("heldout") if name == SOURCE else load_task(name, split="validation")
        for seed in seeds:
            order = torch.randperm(len(task), generator=torch.Generator().manual_seed(seed))
            chosen, others = order[:pictures].sort().values, order[pictures:].sort().values
            found = zero_shot_denoising(model, task.read(chosen), timesteps, seed=seed, steps=STEPS)
            reference = task.read(others)  # other pictures: to give back the very ones is not the question here
            for t, denoised, error in zip(timesteps, found["denoised"], found["error"]):
                kid = evaluate(denoised, reference)["kid"]
                rows.append({"world": world_version(), "set": name, "seed": seed, "t": t, "error": float(error.mean()), "kid": kid})
    return pandas.DataFrame(rows)


class Trend(NamedTuple):
    """Spearman's rank correlation over seeds: mean and half-width of its 95 % interval."""

    mean: float
    half_width: float
    seeds: int

    @property
    def verdict(self) -> str:
        if self.seeds < 2:
            return "one seed decides nothing"
        if self.mean - self.half_width > 0:
            return "grows"
        return "falls" if self.mean + self.half_width < 0 else "no trend"

    def __str__(self) -> str:
        return f"rank correlation {self.mean:+.2f} ± {self.half_width:.2f} over {self.seeds} seeds: {self.verdict}"


def trend(table: pandas.DataFrame, place: str, value: str) -> Trend:
    """Does `value` grow with `place` (a timestep or tenth)?  One rank correlation for each seed, then their mean and interval."""
    from scipy.stats import spearmanr

    correlations = np.array([spearmanr(rows[place], rows[value]).statistic for _, rows in table.groupby("seed")])
    return Trend(*mean_interval(correlations), len(correlations))


if __name__ == "__main__":
    with atomic_path(data_folder() / "results" / "zero_shot.csv") as scratch:
        zero_shot_table(load_pretrained("tiny")).to_csv(scratch, index=False, float_format="%.5g")
