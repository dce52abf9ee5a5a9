"""What the pilot's table says under its two protocols, as numbers and in words.

The paper's protocol: guidance 1.5, the last step, the same for all.  Best against best: each method at the guidance and the step
that suit it best on validation pictures.  Both are scored against test pictures; gains over plain fine-tuning are paired by seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Iterable

import numpy as np
import torch
from torch import Tensor

from ...studies.gains import Estimate, gain_at_own_best, loss_gain, paired_gain
from ...support.world import data_folder

if TYPE_CHECKING:
    import pandas

OURS = "Diff-Tuning"
PAPER, OWN_BEST = "the paper's protocol", "each at its own best"
BY_SOURCE = "domain"  # guidance by the untouched model, which is a method of its own


def protocol_gains(table: pandas.DataFrame, method: str = OURS) -> pandas.DataFrame:
    """A row for each training set and protocol: set, pictures, protocol, gain (an Estimate: lower Frechet distance is a gain)."""
    import pandas

    table = table[~table.guidance.str.startswith(BY_SOURCE)]
    rows = []
    for name, mine in table.groupby("set", sort=False):
        last = int(mine[mine.split == "test"].step.max())
        found = {PAPER: paired_gain(mine, method, "1.5", last), OWN_BEST: gain_at_own_best(mine, method)}
        pictures = int(mine.training_pictures.iloc[0])
        rows += [{"set": name, "pictures": pictures, "protocol": protocol, "gain": gain} for protocol, gain in found.items()]
    return pandas.DataFrame(rows).sort_values(["set", "pictures"], key=_in_order, kind="stable").reset_index(drop=True)


def _in_order(column: pandas.Series) -> pandas.Series:
    """Sets by task, then by number of pictures."""
    return column.str.split(",").str[0] if column.name == "set" else column


def standing(gain: Estimate) -> str:
    """ahead, behind or undecided (the 95 % interval holds 0); one seed has no interval."""
    if gain.seeds < 2:
        return "measured with one seed" if gain.seeds else "not measured"
    return "ahead" if gain.mean > gain.half_width else "behind" if -gain.mean > gain.half_width else "undecided"


def in_words(gains: pandas.DataFrame) -> str:
    """Markdown, a line for each protocol: on which sets Diff-Tuning is ahead of plain fine-tuning, behind it, or neither."""
    lines = []
    for protocol, rows in gains.groupby("protocol", sort=False):
        rows, parts = rows.assign(standing=[standing(gain) for gain in rows.gain]), []
        for word in ("ahead", "behind", "undecided", "measured with one seed", "not measured"):
            sets = rows[rows.standing == word].set.tolist()
            if len(sets) == len(rows):
                parts.append(f"{word} on all {len(rows)} training sets")
            elif sets:
                parts.append(f"{word} on {len(sets)} ({'; '.join(sets)})")
        lines.append(f"- *{protocol}*: Diff-Tuning is {', '.join(parts)}.")
    return "\n".join(lines)


def beside_the_score(table: pandas.DataFrame, losses: pandas.DataFrame, sets: Iterable[str], method: str = OURS) -> pandas.DataFrame:
    """What a score does not see, after the last step: how much lower the held-out losses are than plain's, and the copies of both."""
    import pandas

    found = {}
    for name in sets:
        mine, own = table[table.set == name], losses[losses.set == name]
        last, end = int(own.step.max()), int(mine.step.max())
        at_end = mine[(mine.step == end) & (mine.guidance == "1.5") & (mine.split == "test")]
        copied = at_end.groupby("method").copied.mean()
        found[name] = {
            "seeds": at_end[at_end.method == method].seed.nunique(),
            "source loss lower by": loss_gain(own, method, "source", last).percent,
            "target loss lower by": loss_gain(own, method, "target", last).percent,
            "copies, plain": _share(copied, "plain"),
            f"copies, {method}": _share(copied, method),
        }
    return pandas.DataFrame.from_dict(found, orient="index")


def _share(shares: pandas.Series, method: str) -> str:
    return f"{shares[method]:.0%}" if method in shares else "–"


def long_run_samples(task_name: str, training_pictures: int, methods: Iterable[str], folder: Path | None = None) -> dict[str, Tensor]:
    """Samples (N, 3, H, W) that the pilot kept of its first seed after the last step, at guidance 1.5, class by class; {} where there are none."""
    path = (folder or data_folder() / "results") / "pilot_samples.npz"
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as kept:
        starts = {method: f"{task_name}-{training_pictures}pictures-{method}-lr".replace(" ", "_").replace(",", "") for method in methods}
        names = {method: next((name for name in kept if name.startswith(start)), None) for method, start in starts.items()}
        grey = {method: torch.from_numpy(kept[name]) for method, name in names.items() if name}
    return {method: (pictures.float() / 127.5 - 1)[:, None].expand(-1, 3, -1, -1) for method, pictures in grey.items()}
