"""The tables of lesson 02, and the test of its prediction: what is said to grow along the chain must grow with t.

python -m difftuning.lessons.chain.forgetting     # rebuilds data/results/zero_shot.csv; some minutes
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Sequence

import torch

from ...data.tasks import Task, list_tasks, load_source, load_task, spread_evenly
from ...evaluation.chain_of_forgetting import zero_shot_denoising
from ...evaluation.metrics import evaluate
from ...models.loading import load_pretrained
from ...models.pretrained import Pretrained
from ...studies.gains import Estimate, estimate
from ...support.files import atomic_path
from ...support.progress import progress_bar
from ...support.world import data_folder, world_version
from ...training.memory_bank import MemoryBank

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
    Seeds of a set draw from the same pictures: of a small one (kana) they share many.
    """
    import pandas

    rows = []
    for name in progress_bar([SOURCE, *list_tasks()] if sets is None else sets, "sets"):
        task = as_the_model_draws(load_source("heldout")) if name == SOURCE else load_task(name, split="validation")
        for seed in seeds:
            order = torch.randperm(len(task), generator=torch.Generator().manual_seed(seed))
            chosen, others = order[:pictures].sort().values, order[pictures:].sort().values
            found = zero_shot_denoising(model, task.read(chosen), timesteps, seed=seed, steps=STEPS)
            reference = task.read(others)  # other pictures: to give back the very ones is not the question here
            for t, denoised, error in zip(timesteps, found["denoised"], found["error"]):
                kid = evaluate(denoised, reference)["kid"]
                rows.append({"world": world_version(), "set": name, "seed": seed, "t": t, "error": float(error.mean()), "kid": kid})
    return pandas.DataFrame(rows)


def as_the_model_draws(heldout: Task) -> Task:
    """Held-out source pictures with photographs, icons and letters in the shares that they have among the model's own samples.

    Otherwise even a perfect model would move away from the set towards the noise end, where it chooses the kind.
    """
    source = load_source()
    kind_of = dict(zip(source.labels.tolist(), source.kinds or []))
    shares = Counter(kind_of[label] for label in MemoryBank.load(data_folder() / "bank").labels.tolist())
    places = {kind: [i for i, own in enumerate(heldout.kinds or []) if own == kind] for kind in shares}
    scale = min(len(places[kind]) / share for kind, share in shares.items())
    spread = [torch.tensor(places[kind])[spread_evenly(len(places[kind]), int(scale * share))] for kind, share in shares.items()]
    return heldout.subset(torch.cat(spread).sort().values)


def beyond_source(table: pandas.DataFrame) -> pandas.DataFrame:
    """The tasks' rows of `zero_shot_table` with `beyond`: how much farther from its set a task comes back than the source does from its own."""
    source = table[table["set"] == SOURCE][["seed", "t", "kid"]].rename(columns={"kid": "of_source"})
    tasks = table[table["set"] != SOURCE].merge(source, on=["seed", "t"])
    return tasks.assign(beyond=tasks.kid - tasks.of_source)


def handed_back(table: pandas.DataFrame) -> pandas.DataFrame:
    """What the Frechet distance changes by when the source model takes over the last steps; negative is better.

    A row for each task, method and fraction of the steps, two columns of `Estimate`: against no replacement, and against
    the tuned model's own null label taking over the same steps (which takes class and guidance away just as well).
    """
    import pandas

    rows = {}
    for (name, method), own in table.groupby(["task", "method"], sort=False):
        wide = own.pivot_table(index="seed", columns=["by", "fraction"], values="fid")
        source, null = wide["source"], wide["own null label"]
        for x in null:
            changes = {"against no replacement": source[x] - source[0.0], "against the own null label": source[x] - null[x]}
            rows[name, method, x] = {control: estimate(change.to_numpy()) for control, change in changes.items()}
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis(["task", "method", "fraction"])


def lost_less(table: pandas.DataFrame, task: str, fraction: float, ours: str = "Diff-Tuning", other: str = "plain") -> Estimate:
    """How much less `ours` is improved by handing back than `other`, both against their own null labels; paired by seed."""
    rows = table[(table.task == task) & (table.fraction == fraction)]
    wide = rows.pivot_table(index="seed", columns=["method", "by"], values="fid")
    improved = {method: wide[method, "own null label"] - wide[method, "source"] for method in (ours, other)}
    return estimate((improved[other] - improved[ours]).to_numpy())


if __name__ == "__main__":
    with atomic_path(data_folder() / "results" / "zero_shot.csv") as scratch:
        zero_shot_table(load_pretrained("tiny")).to_csv(scratch, index=False, float_format="%.5g", lineterminator="\n")
