"""Does transferability, measured before any tuning, say where Diff-Tuning gains?  Its index beside the gain, set by set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from ..data.tasks import load_task
from ..evaluation.transferability import transferability
from ..models.loading import load_pretrained
from ..support.world import world_version
from .gains import Gain, paired_gain

if TYPE_CHECKING:
    import pandas


def index_table(sets: Sequence[tuple[str, int]]) -> pandas.DataFrame:
    """A row for each set (a task and how many of its training pictures): the index, and the ratio of losses in each tenth of the chain."""
    import pandas

    pretrained, rows = load_pretrained("tiny"), []
    for name, count in sets:
        found = transferability(pretrained, load_task(name).subset(range(count)))
        ratios = {f"ratio_{tenth}": ratio for tenth, ratio in enumerate(found["ratio"].tolist(), 1)}
        rows.append({"world": world_version(), "task": name, "training_pictures": count, "index": found["index"]} | ratios)
    return pandas.DataFrame(rows)


def index_against_gain(
    indices: pandas.DataFrame, table: pandas.DataFrame, method: str, guidance: str, step: int
) -> tuple[list[tuple[str, float, Gain]], float]:
    """(set, index, gain over plain fine-tuning) for each set that was measured, and Spearman's rank correlation of the two; nan below three sets."""
    from scipy.stats import spearmanr

    found = []
    for name, index in zip(indices.set, indices["index"]):
        gain = paired_gain(table[table.set == name], method, guidance, step)
        if gain.seeds:
            found.append((name, float(index), gain))
    correlation = (
        spearmanr([index for _, index, _ in found], [gain.mean for *_, gain in found]).statistic if len(found) > 2 else float("nan")
    )
    return found, float(correlation)
