"""What was hoped of the comparison itself (data/results/expected_methods.md, items 1 to 3 and 7), asked of the sets that were run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Mapping

import numpy as np

from ...studies.gains import BY_SOURCE, Estimate, Gain, estimate, read_table
from ..expectations import decided, expectations_table
from ..numerals import listed, out_of
from ..parts import BETTER, SPLIT, STEPS, Parts, change_in_words, ratio
from .counting import paper_cells, sets_with_copies
from .runs import GUIDED, NEW, OURS, PLAIN, UNGUIDED, called, gain, lower, mean_over

if TYPE_CHECKING:
    import pandas

CLAIM, LOSS, KEPT, UNGUIDED_APART = 26, 10, 5, 10  # per cent that were hoped for
BY_LABEL = "1.5"  # the usual guidance


def domain_guidance(folder: Path | None = None) -> Estimate:
    """log(plain fine-tuning's distance under the usual guidance / under Domain Guidance), the pilot's sets on average, by seed: above 0 the latter helps."""
    table = read_table("pilot", folder)
    table = table[
        (table.method == PLAIN) & (table.split == SPLIT) & (table.step == table[table.guidance.str.startswith(BY_SOURCE)].step.max())
    ]
    log = table.assign(log=np.log(table.fid)).pivot_table(index="seed", columns=["guidance", "set"], values="log")
    return estimate((log[BY_LABEL] - log[f"{BY_SOURCE} {BY_LABEL}"]).mean(axis=1).dropna().to_numpy())


def expected_main(
    gains: pandas.DataFrame, sweeps: Parts, copied: Mapping[tuple[str, int, int], tuple[float, float]], domain: Estimate
) -> pandas.DataFrame:
    """A row for each hope: was it right, and what was found on our sets.  `copied`: of `counting.copies`."""
    last = paper_cells(gains)
    samples = [called(gain(gains, cell), GUIDED) == BETTER for cell in last]
    mean = mean_over(gains, last)
    losses = [lower(gain(gains, cell._replace(measure=NEW))) >= LOSS for cell in last]
    unguided = mean_over(gains, [cell._replace(measure=UNGUIDED) for cell in last])
    kept = {task: [100 * (ratio(sweeps, task, "source", method) - 1) for method in (PLAIN, OURS)] for task in sweeps.tasks}
    some = sets_with_copies(copied)
    rows = {
        f"the samples are better on every set, by {CLAIM} % on average": (
            all(samples) and 100 * mean.lower >= CLAIM, f"clearly better on {out_of(sum(samples), len(last), 'sets')}, on average by {mean.percent}"),
        f"the loss on new pictures is lower by {LOSS} % or more on every set": (
            all(losses), f"on {out_of(sum(losses), len(last), 'sets')}"),
        f"under Diff-Tuning the loss on old pictures rises by {KEPT} % at most (under plain fine-tuning by 50 %)": (
            all(ours <= KEPT for _, ours in kept.values()),
            ", ".join(f"by {ours:.0f} % (by {plain:.0f} %) on {task} after {STEPS} steps" for task, (plain, ours) in kept.items())),
        "fewer copies wherever plain fine-tuning makes any": (
            all(ours < plain for plain, ours in some.values()),
            listed(f"{100 * ours:.0f} % for {100 * plain:.0f} % ({name})" for name, (plain, ours) in some.items())
            if some else "neither makes any"),
        f"without guidance the samples of the two differ by less than {UNGUIDED_APART} %": (
            _within(unguided, UNGUIDED_APART), f"by {unguided.percent} on average"),
        "guided by the untouched model (Domain Guidance), plain fine-tuning gains part of that": (
            decided(domain), f"its distance is {change_in_words(domain)}"),
    }  # fmt: skip
    return expectations_table(rows)


def _within(found: Gain, percent: float) -> bool | None:
    """Is a difference smaller than so many per cent?  None where its interval holds both answers."""
    low, high = (100 * end for end in found.ends)
    if low > -percent and high < percent:
        return True
    return False if low >= percent or high <= -percent else None
