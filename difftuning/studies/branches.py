"""Which branch of guidance does Diff-Tuning's difference come from?  Conditional and null branch of tuned models, mixed.

    python -m difftuning.studies.branches     # adds what is missing of data/results/branches.csv; a quarter of an hour of one core a set and seed

Guidance predicts eps = u + w (c - u): c under the labels, u under the null label.  Diff-Tuning changes both: c, as plain fine-tuning does, and u,
which the bank is trained under.  Here c and u come from any of the models, so each branch's share of the gain is seen by itself;
a model tuned with the rising weights and no bank tells the two apart.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Iterable, Iterator, Sequence

from ..config import StudyCell
from ..data.tasks import load_task
from ..evaluation.metrics import evaluate
from ..models.loading import load_pretrained
from ..sampling import sample
from ..support.progress import progress_bar
from ..support.world import data_folder, world_version
from ..training.fine_tuned import FineTuned
from .cell import tune
from .choices import LEARNING_RATES
from .grid import FEW, SOME
from .methods import MAIN
from .tables import Row, append_rows, kept_rows

STEPS, SAMPLES, SAMPLING_STEPS, GUIDANCE = 1600, 500, 12, 1.5  # as in the pilot
SETS = (SOME, FEW)
SET, PAIR = ("task", "training_pictures", "seed"), ("labels_by", "guided_by")
UNTOUCHED, NONE = "untouched", "none"  # Domain Guidance; no guidance
NO_BANK = "reconsolidation only"
MODELS = (*MAIN, NO_BANK)
PAIRS = list(itertools.product(MODELS, [*MODELS, UNTOUCHED, NONE]))  # who answers under the labels, and who guides


def tuned_model(name: str, task: str, pictures: int, seed: int, steps: int = STEPS) -> FineTuned:
    """The model that the pilot's run of this method, set and seed ends with."""
    training = load_task(task).subset(range(pictures))
    cell = StudyCell(task, name, seed, LEARNING_RATES[name], steps=(steps,), training_pictures=pictures)
    with tempfile.TemporaryDirectory() as folder:
        return tune(cell, training, steps, Path(folder))


def mixed_scores(
    models: dict[str, FineTuned], task: str, seed: int, pairs: Iterable[tuple[str, str]] = PAIRS, samples: int = SAMPLES
) -> Iterator[Row]:
    """Frechet and kernel distance to the test split: a row for each pair of who answers under the labels, and who guides."""
    reference = load_task(task, split="test")
    guides = {name: tuned.model for name, tuned in models.items()} | {UNTOUCHED: load_pretrained("tiny"), NONE: None}
    for name, guide in pairs:
        labels = models[name].rows.repeat(-(-samples // len(models[name].rows)))[:samples]
        images = sample(
            models[name].model, labels, steps=SAMPLING_STEPS, guidance=1 if guide == NONE else GUIDANCE, guide=guides[guide], seed=seed,
            progress=False,
        )  # fmt: skip
        found = evaluate(images, reference)
        yield {"labels_by": name, "guided_by": guide, "fid": found["fid"], "kid": found["kid"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=None, help="default: results/branches.csv of the tiny world")
    parser.add_argument("--task", choices=[task for task, _ in SETS], default=None, help="one alone (default: both)")
    parser.add_argument("--seeds", type=int, default=1, help="how many (default: 1)")
    given = parser.parse_args(arguments)
    table = given.table or data_folder() / "results" / "branches.csv"
    known = {tuple(row[column] for column in (*SET, *PAIR)) for row in kept_rows(table)}
    wanted = {
        one: [pair for pair in PAIRS if (*map(str, one), *pair) not in known]
        for one in ((*one, seed) for seed in range(given.seeds) for one in SETS if given.task in (None, one[0]))
    }
    missing = {one: pairs for one, pairs in wanted.items() if pairs}
    with progress_bar(None, "branches", initial=len(wanted) - len(missing), total=len(wanted), shown=bool(missing)) as bar:
        for (task, pictures, seed), pairs in missing.items():
            asked = set(itertools.chain(*pairs)).intersection(MODELS)
            models = {name: tuned_model(name, task, pictures, seed) for name in MODELS if name in asked}
            run = dict(zip(SET, (task, pictures, seed))) | {"step": STEPS, "world": world_version()}
            append_rows(table, [run | row for row in mixed_scores(models, task, seed, pairs)])
            bar.update()


if __name__ == "__main__":
    main()
