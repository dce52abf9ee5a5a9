"""What the pilot's table says under its two protocols, as numbers and in words.

The paper's protocol: guidance 1.5, the last step, the same for all.  Best against best: each method at the guidance and the step
that suit it best on validation pictures.  Both are scored against test pictures; gains over plain fine-tuning are paired by seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from ...studies.gains import Gain, by_set, gain_at_own_best, loss_gain, paired_gain
from ..numerals import listed, numeral, out_of
from ..parts import ALIKE, BETTER, SAME, WORSE, in_a_word

if TYPE_CHECKING:
    import pandas

OURS = "Diff-Tuning"
PAPER, OWN_BEST = "the paper's protocol", "each at its own best"
WHERE = {PAPER: "Under the paper's protocol the samples of Diff-Tuning are", OWN_BEST: "With each at its own best they are"}


def protocol_gains(table: pandas.DataFrame, method: str = OURS) -> pandas.DataFrame:
    """A row for each training set and protocol: set, protocol, gain (a Gain: above 0 Diff-Tuning's Frechet distance is lower)."""
    import pandas

    rows = []
    for name, mine in by_set(table):
        last = int(mine[mine.split == "test"].step.max())
        found = {PAPER: paired_gain(mine, method, "1.5", last), OWN_BEST: gain_at_own_best(mine, method)}
        rows += [{"set": name, "protocol": protocol, "gain": gain} for protocol, gain in found.items()]
    return pandas.DataFrame(rows)


def in_words(gains: pandas.DataFrame, losses: pandas.DataFrame) -> str:
    """Markdown: on how many training sets Diff-Tuning's samples are better than plain's, a line for each protocol, and its loss on old pictures."""
    lines = [f"- {WHERE[protocol]} {_samples(list(rows.gain))}." for protocol, rows in gains.groupby("protocol", sort=False)]
    last = int(losses.step.max())
    kept = [loss_gain(losses[losses.set == name], OURS, "source", last) for name in gains.set.unique()]
    kept = [round(100 * gain.lower) for gain in kept if gain.seeds]
    lower = [percent for percent in kept if percent > 0]
    if lower:
        by = f"by {min(lower)} to {max(lower)} %" if min(lower) < max(lower) else f"by {lower[0]} %"
        lines.append(f"- Its loss on old pictures, after {last:,} steps, is lower on {out_of(len(lower), len(kept), 'sets')}, {by}.")
    beyond = ", and more than chance explains: the interval does not hold 0" if any(gain.has_interval for gain in gains.gain) else ""
    return "\n".join(lines) + f"\n\n(*Clearly* is by more than {100 * ALIKE:.0f} %{beyond}.)"


def _samples(gains: Sequence[Gain]) -> str:
    """Of the sets that were measured, on how many the samples are better, worse, and neither."""
    found = [in_a_word([gain], ALIKE) for gain in gains if gain.seeds]
    said = {BETTER: "clearly better", WORSE: "clearly worse", SAME: "not clearly different"}
    (word, count), *rest = ((told, found.count(word)) for word, told in said.items() if word in found)
    words = [f"{word} on {out_of(count, len(found), 'sets')}", *(f"{word} on {numeral(count)}" for word, count in rest)]
    return listed(words)
