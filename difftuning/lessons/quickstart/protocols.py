"""What the pilot's table says under its two protocols, as numbers and in words.

The paper's protocol: guidance 1.5, the last step, the same for all.  Best against best: each method at the guidance and the step
that suit it best on validation pictures.  Both are scored against test pictures; gains over plain fine-tuning are paired by seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...studies.gains import Estimate, gain_at_own_best, loss_gain, paired_gain

if TYPE_CHECKING:
    import pandas

OURS = "Diff-Tuning"
PAPER, OWN_BEST = "the paper's protocol", "each at its own best"
WHERE = {PAPER: "under the paper's protocol", OWN_BEST: "with each at its own best"}
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


def in_words(gains: pandas.DataFrame, losses: pandas.DataFrame) -> str:
    """Markdown, a line for each training set: Diff-Tuning's distance under either protocol, and its loss on held-out source pictures, against plain's."""
    lines = []
    for name, rows in gains.groupby("set", sort=False):
        told = "; ".join(f"{_against_plain(gain, 'better', 'worse')} {WHERE[protocol]}" for protocol, gain in zip(rows.protocol, rows.gain))
        own = losses[losses.set == name]
        kept = _against_plain(loss_gain(own, OURS, "source", own.step.max()), "lower", "higher")
        lines.append(f"- *{name}*: {told}. Its loss on the source's pictures is {kept}.")
    if any(gain.seeds == 1 for gain in gains.gain):
        lines.append("\nThese are single runs, so a difference may be chance.")
    return "\n".join(lines)


def _against_plain(gain: Estimate, good: str, bad: str) -> str:
    if not gain.seeds:
        return "not measured"
    spread, percent = f" (± {100 * gain.half_width:.0f})" if gain.seeds > 1 else "", round(100 * gain.mean)
    return f"{abs(percent)} %{spread} {good if percent > 0 else bad}" if percent else f"the same{spread}"
