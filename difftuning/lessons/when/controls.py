"""Counter-experiments (study "parts"): what should not work, beside plain fine-tuning and beside Diff-Tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..parts import Parts, in_a_table, new_samples, old_losses
from .runs import OURS, PLAIN

if TYPE_CHECKING:
    import pandas

CONTROLS = {
    "weightings swapped": "the new pictures mostly at the data end, the bank mostly at the noise end",
    "bank of noise": "random numbers in the bank's places",
    "reconsolidation only": "no bank at all",
    "bank of target pictures": "the new pictures themselves as a bank",
    "bank of real pictures": "real pictures of the source, which the method claims not to need",
}
SIDES = {"new samples": new_samples, "old pictures": old_losses}


def controls_table(parts: Parts) -> pandas.DataFrame:
    """A row for Diff-Tuning and for each control: new samples and old pictures in words."""
    import pandas

    rows = {}
    for method in parts.present([OURS, *CONTROLS]):
        row = {("beside plain fine-tuning", side): ask(parts, method, PLAIN) for side, ask in SIDES.items()}
        row |= {("beside Diff-Tuning", side): ask(parts, method, OURS) if method != OURS else "–" for side, ask in SIDES.items()}
        rows[method] = row
    return pandas.DataFrame(rows).T.map(in_a_table)
